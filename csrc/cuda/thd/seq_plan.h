// Host interface of the sequence planner: turns device cu_seqlens into spans and a flat tile list, on the device.
// Plain C++, seen by csrc/core. One launch serves queries and keys of a call.
#pragma once

#include <cstdint>

#include "attn/params.h"

namespace portattn {

// One side to plan; spans == nullptr means there is nothing to do for it.
struct SidePlanRequest {
  const int32_t* cu_seqlens = nullptr;         // [>= batch + 1], any content
  const int32_t* cu_seqlens_padded = nullptr;  // [>= batch + 1] or null: starts; null = cu_seqlens
  int64_t total_tokens = 0;                    // rows of the buffer, < 2^31
  int32_t tile_rows = 0;                       // rows of a tile; 0 = spans only, no tile list
  int32_t tile_capacity = 0;                   // entries in tiles: seq_plan_tile_capacity()
  SeqSpan* spans = nullptr;                    // out [batch + 1]
  TileRef* tiles = nullptr;                    // out [tile_capacity]
  int32_t* num_tiles = nullptr;                // out [1]
};

struct SeqPlanParams {
  int32_t batch = 0;
  SidePlanRequest q, kv;
  int32_t* next_item = nullptr;  // out: 0 (AttnParams::next_item), unless null
};

// Most tiles that `batch` sequences and the gap before them can need in a buffer of total_tokens rows.
inline int64_t seq_plan_tile_capacity(int64_t total_tokens, int64_t batch, int64_t tile_rows) {
  return total_tokens / tile_rows + batch + 1;
}

int launch_seq_plan(const SeqPlanParams& params, void* stream);

}  // namespace portattn
