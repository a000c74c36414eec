// Kernels that start while the one before them on the stream comes to its end, so that what they do first is hidden
// ("programmatic dependent launch" of sm_90). Elsewhere they start after it, as all others do.
#pragma once

#include "device/types.cuh"

#if !defined(PORTATTN_TARGET_HOST)
#include <cuda_runtime.h>
#endif

namespace portattn {

// Base of such a kernel. In each of its blocks some thread calls await_previous_kernel(); until then the block reads
// nothing that the kernel before writes, and writes nothing that it reads or writes.
struct StartsEarly {};

#if defined(PORTATTN_TARGET_HOST) || defined(PORTATTN_TARGET_HIP)

PA_DEVICE void await_previous_kernel() {}
PA_DEVICE void let_next_kernel_start() {}

#else

// Waits until all that comes before this kernel on the stream has ended. What it wrote is visible then.
PA_DEVICE void await_previous_kernel() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next kernel, if it starts early, may do so when all blocks of this one have called this or ended. Blocks of a
// kernel that starts early itself wait first: then this kernel alone is still running when the next one starts.
PA_DEVICE void let_next_kernel_start() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Does the current device run the machine code in which kernels wait?
inline bool device_starts_early() {
#if PORTATTN_HAS_SM90A
  int device = 0, major = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major == 9;
#else
  return false;
#endif
}

inline cudaError_t launch_early(const void* entry, dim3 grid, dim3 block, void** arguments, size_t smem_bytes,
                                cudaStream_t stream) {
  cudaLaunchAttribute early;
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = smem_bytes;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  return cudaLaunchKernelExC(&config, entry, arguments);
}

#endif

}  // namespace portattn
