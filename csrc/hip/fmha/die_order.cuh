// On which of the eight dies (XCDs) of an MI300X a block works, and so which blocks share an L2.
#pragma once

#include "device/launch.cuh"
#include "device/math.cuh"

namespace portattn::gfx942 {

constexpr uint32_t kDies = 8;  // of an MI300X; each has its own L2

// Workgroups are dealt to the dies in turn. Renumbered so that each die gets a run of consecutive ones: the tiles of
// one head, then of the next head of its group, find their keys and values in the die's own L2.
PA_DEVICE BlockCtx by_die(const BlockCtx& ctx, int32_t heads) {
  // A launch has fewer than 2^32 threads, so that 32 bits hold any number of blocks.
  const uint32_t grid_x = ctx.grid_x, blocks = grid_x * heads, index = ctx.y * grid_x + ctx.x;
  const uint32_t die = index % kDies, longer = blocks % kDies;
  const uint32_t place = blocks / kDies * die + min_of(die, longer) + index / kDies;
  BlockCtx renumbered = ctx;
  renumbered.x = static_cast<int32_t>(place % grid_x);
  renumbered.y = static_cast<int32_t>(place / grid_x);
  return renumbered;
}

}  // namespace portattn::gfx942
