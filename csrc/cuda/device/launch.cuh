// The one __global__ template and its launch. A kernel is a struct:
//   using Params = ...;  static constexpr int kThreads, kMinBlocks;
//   PA_DEVICE void operator()(const Params&, const BlockCtx&) const;
// and derives from StartsEarly (device/overlap.cuh) if it may start before the kernel before it has ended.
// On the host a launch is an OpenMP loop over the grid, with one thread and its own scratch memory a block.
#pragma once

#include <cstdint>

#include "device/overlap.cuh"
#include "device/types.cuh"
#include "device/warp.cuh"

#if defined(PORTATTN_TARGET_HOST)
#include <cstdlib>
#include <new>
#else
#include <cuda_runtime.h>
#endif

namespace portattn {

struct BlockCtx {
  int32_t x;  // block index, up to 2^31 - 1
  int32_t y;  // block index, up to 65535
  int32_t grid_x;
  int32_t tid;  // thread in the block
  char* smem;   // dynamic shared memory, 1024-byte aligned
};

struct Grid {
  int64_t x;
  int32_t y;
};

constexpr int kLaunchTooLarge = 9;  // a grid beyond the device's limits (cudaErrorInvalidConfiguration)

#if defined(PORTATTN_TARGET_HOST)

// Scratch of one worker thread; grows, never shrinks, freed with the thread.
class HostScratch {
 public:
  ~HostScratch() { std::free(data_); }
  char* reserve(size_t bytes) {
    if (bytes > capacity_) {
      std::free(data_);
      capacity_ = (bytes + 4095) / 4096 * 4096;
      data_ = static_cast<char*>(std::aligned_alloc(4096, capacity_));
      if (data_ == nullptr) capacity_ = 0;
    }
    return data_;
  }

 private:
  char* data_ = nullptr;
  size_t capacity_ = 0;
};

constexpr int kHostOutOfMemory = 2;  // the value of cudaErrorMemoryAllocation

template <class Kernel>
int launch(const typename Kernel::Params& params, Grid grid, size_t smem_bytes, void* /*stream*/) {
  static_assert(Kernel::kThreads == 1, "a host block is one thread that owns whole tiles");
  int status = 0;
  const int64_t blocks = grid.x * grid.y;
#pragma omp parallel for schedule(dynamic, 1) reduction(max : status)
  for (int64_t i = 0; i < blocks; ++i) {
    static thread_local HostScratch scratch;
    char* smem = smem_bytes == 0 ? nullptr : scratch.reserve(smem_bytes);
    if (smem_bytes != 0 && smem == nullptr) {
      status = kHostOutOfMemory;
      continue;
    }
    BlockCtx ctx{static_cast<int32_t>(i % grid.x), static_cast<int32_t>(i / grid.x), static_cast<int32_t>(grid.x), 0,
                 smem};
    Kernel{}(params, ctx);
  }
  return status;
}

#else

#if defined(PORTATTN_TARGET_HIP)

// The second launch bound counts warps on each of the four SIMDs of a compute unit.
template <class Kernel>
constexpr int kLaunchBound = (Kernel::kThreads / kWarpSize * Kernel::kMinBlocks + 3) / 4;

// A grid counts threads, not blocks, in 32 bits.
template <class Kernel>
constexpr int64_t kMaxGridX = UINT32_MAX / Kernel::kThreads;

// The only argument of the running kernel, where it lies: as a value it would be copied to the stack by reread().
template <class Params>
PA_DEVICE const Params& kernel_argument(const Params&) {
  return *(const Params*)__builtin_amdgcn_kernarg_segment_ptr();  // NOLINT: leaves the constant address space
}

#else

// The second launch bound counts blocks on a multiprocessor.
template <class Kernel>
constexpr int kLaunchBound = Kernel::kMinBlocks;

template <class Kernel>
constexpr int64_t kMaxGridX = INT32_MAX;

template <class Params>
PA_DEVICE const Params& kernel_argument(const Params& params) {
  return params;
}

#endif

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, kLaunchBound<Kernel>)
    kernel_entry(const PA_GRID_CONSTANT typename Kernel::Params params) {
  extern __shared__ __align__(1024) char smem[];
  Kernel{}(kernel_argument(params),
           BlockCtx{static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(blockIdx.y), static_cast<int32_t>(gridDim.x),
                    static_cast<int32_t>(threadIdx.x), smem});
}

template <class Kernel>
int launch(const typename Kernel::Params& params, Grid grid, size_t smem_bytes, void* stream) {
  if (grid.x == 0 || grid.y == 0) return 0;
  if (grid.x > kMaxGridX<Kernel> || grid.y > 65535) return kLaunchTooLarge;
  const void* entry = reinterpret_cast<const void*>(kernel_entry<Kernel>);
  if (smem_bytes > 48 * 1024) {
    cudaError_t error =
        cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(smem_bytes));
    if (error != cudaSuccess) return static_cast<int>(error);
  }
  void* arguments[] = {const_cast<typename Kernel::Params*>(&params)};
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y)), threads(Kernel::kThreads);
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
#if !defined(PORTATTN_TARGET_HIP)
  if (std::is_base_of_v<StartsEarly, Kernel> && device_starts_early()) {
    return static_cast<int>(launch_early(entry, blocks, threads, arguments, smem_bytes, on));
  }
#endif
  return static_cast<int>(cudaLaunchKernel(entry, blocks, threads, arguments, smem_bytes, on));
}

#endif

}  // namespace portattn
