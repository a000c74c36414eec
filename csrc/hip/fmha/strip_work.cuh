// Which tile a block of the gfx942 pipelines works on, and on which of the eight dies (XCDs) of an MI300X.
#pragma once

#include "attn/work_tile.cuh"
#include "device/launch.cuh"
#include "fmha/pipeline/gfx942_strip.cuh"

namespace portattn::gfx942 {

constexpr int32_t kDies = 8;  // of an MI300X; each has its own L2

// Workgroups are dealt to the dies in turn. Renumbered so that each die gets a run of consecutive ones: the tiles of
// one head, then of the next head of its group, find their keys and values in the die's own L2.
PA_DEVICE BlockCtx by_die(const BlockCtx& ctx, int32_t heads) {
  const uint32_t grid_x = static_cast<uint32_t>(ctx.grid_x);
  const uint64_t blocks = static_cast<uint64_t>(grid_x) * heads, index = static_cast<uint64_t>(ctx.y) * grid_x + ctx.x;
  const uint32_t die = static_cast<uint32_t>(index % kDies), longer = static_cast<uint32_t>(blocks % kDies);
  const uint64_t place = blocks / kDies * die + min_of(die, longer) + index / kDies;
  BlockCtx renumbered = ctx;
  renumbered.x = static_cast<int32_t>(place % grid_x);
  renumbered.y = static_cast<int32_t>(place / grid_x);
  return renumbered;
}

// A block takes `Merged` neighbouring tiles of the `PlannedRows` rows that the caller has planned for. A thd plan lists
// all of them: the block of the first takes them, the others have nothing to do.
template <int PlannedRows, int Merged>
struct MergedTiles {
  static constexpr int kRows = PlannedRows * Merged;

  static PA_DEVICE bool next(const SeqSide& side, int32_t x, bool backwards, WorkTile& work) {
    if (!side.is_thd) return next_tile(side, kRows, x, backwards, work);
    if (!next_tile(side, PlannedRows, x, backwards, work) || work.block % Merged != 0) return false;
    work.block /= Merged;
    return true;
  }
  static int64_t blocks(const SeqSide& side, int32_t batch) {
    return num_tile_blocks(side, batch, side.is_thd ? PlannedRows : kRows);
  }
};

}  // namespace portattn::gfx942
