// The order in which resident blocks take tiles, for kernels whose blocks stay and walk over the work: sections of
// heads that share the L2 cache; in a section, step by step, the heads of a step side by side.
#pragma once

#include "attn/work_tile.cuh"

namespace portattn {

struct WorkItem {
  WorkTile tile;
  int32_t head;
};

// A lane is one head of one sequence; of thd, one head of all, whose steps are the plan's tiles.
struct WorkOrder {
  int32_t lanes;
  int32_t section;  // lanes walked together
  int32_t blocks;   // steps of a lane; of thd, the plan says
  bool backwards;   // last block of each sequence first: under a causal mask the longest work
  FastDivisor heads;

  PA_DEVICE int32_t steps(const SeqSide& side) const { return side.is_thd ? *side.plan.num_tiles : blocks; }

  PA_DEVICE WorkItem item(const SeqSide& side, int32_t index, int32_t num_steps) const {
    const int32_t section_items = section * num_steps;
    const int32_t first_lane = index / section_items * section;
    const int32_t in_section = index % section_items;
    const int32_t width = min_of(section, lanes - first_lane);
    const int32_t step = in_section / width, lane = first_lane + in_section % width;
    const int32_t seq = fast_divide(lane, heads);
    WorkItem item;
    item.head = lane - seq * static_cast<int32_t>(heads.divisor);
    if (side.is_thd) {
      const TileRef ref = side.plan.tiles[step];
      item.tile = WorkTile{ref.seq, ref.block};
    } else {
      item.tile = WorkTile{seq, backwards ? num_steps - 1 - step : step};
    }
    return item;
  }
};

// Blocks count past the last item, each once: half of 32 bits leaves them room.
constexpr int64_t kMostItems = INT32_MAX / 2;

// What a section's heads share: little, so that heads side by side are at the same place of it; more where tiles differ
// in length, since large sections end better, but no more than a 50 MB L2 cache keeps beside the rest.
constexpr int64_t kEvenSectionBytes = int64_t{8} << 20;
constexpr int64_t kSectionBytes = int64_t{32} << 20;
constexpr int64_t kSectionTiles = 128;  // at least: with fewer, the last section leaves multiprocessors idle

// Walks tiles of block_rows of `side` with `heads` heads each. A lane's neighbours read `shared_bytes` again and again;
// `sharing` lanes share them.
inline WorkOrder make_work_order(const SeqSide& side, int32_t batch, int32_t heads, int32_t block_rows,
                                 int64_t shared_bytes, int32_t sharing, int64_t section_bytes) {
  WorkOrder order;
  order.lanes = side.is_thd ? heads : heads * batch;
  order.blocks = static_cast<int32_t>(ceil_div<int64_t>(side.seqlen, block_rows));
  const int64_t cached = section_bytes / max_of<int64_t>(shared_bytes, 1) * sharing;
  const int64_t balanced = ceil_div<int64_t>(kSectionTiles, max_of(order.blocks, 1));
  order.section = static_cast<int32_t>(clamp(max_of(cached, balanced), int64_t{sharing}, int64_t{order.lanes}));
  order.backwards = false;
  order.heads = make_fast_divisor(static_cast<uint32_t>(heads));
  return order;
}

inline int64_t section_bytes(const AttnParams& p) {
  const bool is_even = p.window_right < 0 && !p.q_side.is_thd && !p.kv_side.is_thd;
  return is_even ? kEvenSectionBytes : kSectionBytes;
}

// Of thd, where the host knows no lengths, on average.
inline int64_t rows_of_sequence(const SeqSide& side, int32_t batch) {
  return side.is_thd ? ceil_div<int64_t>(side.seqlen, max_of(batch, 1)) : side.seqlen;
}

// Tiles of queries: the query heads of a group share keys and values. A head may have `parts`, which are numbered as
// heads are: heads 0 to parts - 1 are those of the first.
inline WorkOrder make_query_order(const AttnParams& p, int32_t block_rows, int64_t elem_bytes, int32_t parts = 1) {
  const int64_t shared = rows_of_sequence(p.kv_side, p.batch) * (p.head_dim_qk + p.head_dim_v) * elem_bytes;
  WorkOrder order = make_work_order(p.q_side, p.batch, p.num_heads_q * parts, block_rows, shared,
                                    p.num_heads_q / p.num_heads_kv * parts, section_bytes(p));
  order.backwards = p.window_right >= 0;
  return order;
}

// Tiles of keys, each with the query heads of its group: q, do and dq in float are read by all tiles of a kv head.
inline WorkOrder make_key_order(const AttnParams& p, int32_t block_rows, int64_t elem_bytes, int64_t section_bytes,
                                int32_t parts = 1) {
  const int64_t row = (p.head_dim_qk + p.head_dim_v) * elem_bytes + p.head_dim_qk * int64_t{sizeof(float)};
  const int64_t shared = rows_of_sequence(p.q_side, p.batch) * row * (p.num_heads_q / p.num_heads_kv);
  return make_work_order(p.kv_side, p.batch, p.num_heads_kv * parts, block_rows, shared, parts, section_bytes);
}

// Whether, where a sequence's tiles of keys add to dq one after the other, its last keys come first. Under a causal
// mask they do: tiles walk up from their diagonals, and all that begin at a time follow each other, a query tile apart,
// from the start on. Elsewhere first keys do, and tiles walk down.
PA_HOST_DEVICE bool last_keys_first(int32_t window_left, int32_t window_right) {
  return window_right >= 0 && window_left < 0;
}

// The order of tiles of keys where a tile waits for the one before it in its sequence.
inline WorkOrder make_ordered_key_order(const AttnParams& p, int32_t block_rows, int64_t elem_bytes) {
  WorkOrder order = make_key_order(p, block_rows, elem_bytes, kSectionBytes);
  order.backwards = last_keys_first(p.window_left, p.window_right);
  return order;
}

// The block that an item of an order of keys stands for whose first keys come first; under a causal mask most queries
// see them. The plan of thd lists them last.
PA_DEVICE int32_t first_keys_first(const SeqSide& side, int32_t slot_len, int32_t block, int32_t block_rows) {
  return side.is_thd ? ceil_div(slot_len, block_rows) - 1 - block : block;
}

}  // namespace portattn
