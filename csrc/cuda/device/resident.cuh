// What launches need whose blocks stay on the device and take work until there is none. GPUs only.
#pragma once

#include "device/launch.cuh"

namespace portattn {

#if !defined(PORTATTN_TARGET_HOST)

// Of the current device; 1 when the runtime does not say.
inline int64_t num_multiprocessors() {
  int device = 0, count = 1;
  if (cudaGetDevice(&device) != cudaSuccess) return 1;
  if (cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) return 1;
  return count;
}

// Zeroes device memory, in the order of the stream. Returns the runtime's error code.
inline int zero_async(void* data, size_t bytes, void* stream) {
  return static_cast<int>(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(stream)));
}

#endif

}  // namespace portattn
