// The model's counterpart: a launch runs the kernel. Vector types are CUDA's, and are global there.
#pragma once

#include "device/overlap.cuh"
#include "device/sync.cuh"
#include "device/warp.cuh"

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline int32_t atomicAdd(int32_t* to, int32_t x) {
  const int32_t old = *to;
  *to += x;
  return old;
}

namespace portattn {

struct BlockCtx {
  int32_t x, y, grid_x, tid;
  char* smem;
};
struct Grid {
  int64_t x;
  int32_t y;
};

template <class Kernel>
int launch(const typename Kernel::Params& params, Grid grid, size_t smem_bytes, void* /*stream*/) {
  const int32_t blocks = static_cast<int32_t>(grid.x);
  model::run(blocks, Kernel::kThreads, smem_bytes, [&](const model::Fiber& thread) {
    Kernel{}(params, BlockCtx{thread.block_index, 0, blocks, thread.tid, thread.block->smem});
  });
  return 0;
}

}  // namespace portattn
