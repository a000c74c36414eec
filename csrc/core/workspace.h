// The scratch memory of one call: which pieces there are, how large and where. A pure function of the config and of
// the chosen backend's tile sizes, so the size query and the call agree by construction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"
#include "portattn/fused_attn.h"

namespace portattn {

// What a backend's kernels ask of the caller in one direction.
struct Tiling {
  int32_t tile_rows_q = 0;    // rows of a tile in the plan of thd queries; 0 = spans only
  int32_t tile_rows_kv = 0;   // likewise for thd keys
  bool delta = true;          // the backward is given delta
  bool work_counter = false;  // kernels may count the items that their blocks have taken
  bool dq_accum = false;      // the backward may add dq up in float; needs delta's launch, which zeroes it
  bool dq_turns = false;      // likewise, or in a fixed order
  bool row_stats = false;     // the backward may read delta's row_stats
};

enum WorkspacePiece {
  kSpansQ,
  kTilesQ,
  kNumTilesQ,
  kSpansKv,
  kTilesKv,
  kNumTilesKv,
  kNextItem,
  kDelta,
  kDqAccum,
  kDqTurns,
  kRowStats,
  kNumWorkspacePieces
};

constexpr int64_t kWorkspaceAlignment = 256;

struct WorkspaceLayout {
  Tiling tiling;
  int32_t tile_capacity_q = 0;
  int32_t tile_capacity_kv = 0;
  int64_t offset[kNumWorkspacePieces];  // bytes; -1 = not needed
  int64_t total_bytes = 0;

  // Where `piece` lies in the workspace at `base`, or null when it is not needed.
  template <class T>
  T* carve(void* base, WorkspacePiece piece) const {
    return offset[piece] < 0 ? nullptr : reinterpret_cast<T*>(static_cast<char*>(base) + offset[piece]);
  }
};

NVTEStatus layout_workspace(const AttnConfig& config, NVTEDirection direction, const Tiling& tiling,
                            WorkspaceLayout* layout);

}  // namespace portattn
