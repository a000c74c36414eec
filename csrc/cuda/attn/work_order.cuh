// The order in which resident blocks take tiles, for kernels whose blocks stay and walk over the work: sections of
// heads whose keys and values fit in the L2 cache together; in a section, step by step, the heads of a step side by
// side.
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

constexpr int64_t kSectionBytes = int64_t{32} << 20;  // of keys and values: what a 50 MB L2 cache keeps beside the rest

inline WorkOrder make_work_order(const AttnParams& p, int32_t block_rows, int64_t elem_bytes) {
  WorkOrder order;
  order.lanes = p.q_side.is_thd ? p.num_heads_q : p.num_heads_q * p.batch;
  const int64_t lane_bytes = p.kv_side.seqlen * (p.head_dim_qk + p.head_dim_v) * elem_bytes;
  const int64_t group = p.num_heads_q / p.num_heads_kv;
  order.section =
      static_cast<int32_t>(clamp<int64_t>(kSectionBytes / max_of<int64_t>(lane_bytes, 1) * group, group, order.lanes));
  order.blocks = static_cast<int32_t>(ceil_div<int64_t>(p.q_side.seqlen, block_rows));
  order.backwards = p.window_right >= 0;
  order.heads = make_fast_divisor(static_cast<uint32_t>(p.num_heads_q));
  return order;
}

}  // namespace portattn
