// The model's counterpart.
#pragma once

#include "device/launch.cuh"

namespace portattn {

inline int64_t num_multiprocessors() { return model::device().multiprocessors; }
inline int zero_async(void* data, size_t bytes, void* /*stream*/) {
  std::memset(data, 0, bytes);
  return 0;
}

}  // namespace portattn
