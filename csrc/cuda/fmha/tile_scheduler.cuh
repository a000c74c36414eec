// Which tile a block works on: (rows of a sequence, head). thd walks the plan's flat list, other formats divide the
// block index. Surplus blocks, launched because the host knows capacities only, get nothing.
#pragma once

#include "attn/seqlen_info.cuh"
#include "device/launch.cuh"
#include "device/math.cuh"

namespace portattn {

struct WorkTile {
  int32_t seq;
  int32_t block;
};

// `backwards`: the last block of each sequence first, so that under a causal mask the longest work starts first.
PA_DEVICE bool next_tile(const SeqSide& side, int32_t block_rows, int32_t x, bool backwards, WorkTile& work) {
  if (side.is_thd) {
    if (x >= *side.plan.num_tiles) return false;
    const TileRef ref = side.plan.tiles[x];
    work = WorkTile{ref.seq, ref.block};
    return true;
  }
  const int32_t blocks = static_cast<int32_t>(ceil_div<int64_t>(side.seqlen, block_rows));
  work.seq = x / blocks;
  work.block = x % blocks;
  if (backwards) work.block = blocks - 1 - work.block;
  return true;
}

// The rows of a tile: [0, valid) hold queries, [valid, total) are padding of the same slot.
struct TileRows {
  int32_t first, valid, total;
  PA_DEVICE TileRows(const SeqRows& rows, int32_t block, int32_t block_rows)
      : first(block * block_rows),
        valid(clamp(rows.len - first, 0, block_rows)),
        total(clamp(rows.slot_len - first, 0, block_rows)) {}
};

// Blocks to launch along x.
inline int64_t num_tile_blocks(const SeqSide& side, int32_t batch, int32_t block_rows) {
  if (side.is_thd) return side.seqlen / block_rows + batch + 1;
  return ceil_div<int64_t>(side.seqlen, block_rows) * batch;
}

}  // namespace portattn
