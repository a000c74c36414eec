// Which tile of rows a block works on, for every backend. thd walks the plan's flat list, other formats divide the
// block index. Surplus blocks, launched because the host knows capacities only, get nothing.
#pragma once

#include "attn/seqlen_info.cuh"

namespace portattn {

struct WorkTile {
  int32_t seq;
  int32_t block;
};

// `backwards`: the last block of each sequence first, so that under a causal mask the longest work starts first.
PA_DEVICE bool next_tile(const SeqSide& side, int32_t block_rows, int32_t x, bool backwards, WorkTile& work) {
  if (side.is_thd) {
    const TileRef ref = side.plan.tiles[x];  // within capacity; read before the count says whether it is one
    work = WorkTile{ref.seq, ref.block};
    return x < *side.plan.num_tiles;
  }
  const int32_t blocks = static_cast<int32_t>(ceil_div<int64_t>(side.seqlen, block_rows));
  work.seq = x / blocks;
  work.block = x % blocks;
  if (backwards) work.block = blocks - 1 - work.block;
  return true;
}

// Blocks to launch along x; none for a buffer without rows.
inline int64_t num_tile_blocks(const SeqSide& side, int32_t batch, int32_t block_rows) {
  if (side.seqlen == 0) return 0;
  if (side.is_thd) return side.seqlen / block_rows + batch + 1;
  return ceil_div<int64_t>(side.seqlen, block_rows) * batch;
}

// The rows of a tile: [0, valid) hold tokens, [valid, total) are padding of the same slot.
struct TileRows {
  int32_t first, valid, total;
  PA_DEVICE TileRows(const SeqRows& rows, int32_t block, int32_t block_rows)
      : first(block * block_rows),
        valid(clamp(rows.len - first, 0, block_rows)),
        total(clamp(rows.slot_len - first, 0, block_rows)) {}
};

}  // namespace portattn
