// What the fallback's kernels know beside AttnParams, and how a block index becomes (tile, column chunk, head).
//
// Outputs wider than kChunk columns are computed chunk by chunk, each by its own block, which recomputes the scores:
// registers and shared memory stay the same up to head dim 1024, and no block waits for another.
#pragma once

#include "attn/params.h"
#include "attn/work_tile.cuh"
#include "device/launch.cuh"
#include "tile/copy_any.cuh"
#include "unfused/launch.h"

namespace portattn {

struct UnfusedParams {
  AttnParams attn;
  bool wide;       // every tensor can be copied in 16-byte pieces
  int32_t tiles;   // tiles of rows to walk
  int32_t chunks;  // column chunks of the widest output
};

// Columns of an output that one block computes.
template <class T>
constexpr int kUnfusedChunk = sizeof(T) < 8                      ? 128
                              : Arch::kMaxSmemBytes < 128 * 1024 ? 32
                                                                 : 64;

// Heads outermost: the blocks that run together share the keys and values of few heads.
struct UnfusedBlock {
  int32_t tile, chunk, head;
  PA_DEVICE UnfusedBlock(const UnfusedParams& params, int32_t x)
      : tile(x % params.tiles), chunk(x / params.tiles % params.chunks), head(x / params.tiles / params.chunks) {}
};

// Launches one block for each (tile of `side`, chunk, head).
template <class Kernel>
int launch_unfused(const AttnParams& p, const SeqSide& side, int32_t block_rows, int32_t heads, int32_t widest_output,
                   bool wide, void* stream) {
  const int64_t tiles = num_tile_blocks(side, p.batch, block_rows);
  const int64_t chunks = ceil_div<int64_t>(widest_output, kUnfusedChunk<typename Kernel::Element>);
  if (tiles > INT32_MAX) return kLaunchTooLarge;
  const UnfusedParams params{p, wide, static_cast<int32_t>(tiles), static_cast<int32_t>(chunks)};
  return launch<Kernel>(params, Grid{tiles * chunks * heads, 1}, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
