// Lanes of a warp (32 on NVIDIA, 64 on AMD, 1 on the host) and exchange between them.
#pragma once

#include "device/types.cuh"

namespace portattn {

#if defined(PORTATTN_TARGET_HOST)

constexpr int kWarpSize = 1;
template <class V>
PA_DEVICE V shuffle_xor(V v, int) {
  return v;
}
template <class V>
PA_DEVICE V shuffle_from(V v, int) {
  return v;
}

PA_DEVICE bool warp_any(bool v) { return v; }

#elif defined(PORTATTN_TARGET_HIP)

constexpr int kWarpSize = 64;
template <class V>
PA_DEVICE V shuffle_xor(V v, int mask) {
  return __shfl_xor(v, mask, kWarpSize);
}
template <class V>
PA_DEVICE V shuffle_from(V v, int lane) {
  return __shfl(v, lane, kWarpSize);
}
PA_DEVICE bool warp_any(bool v) { return __any(v) != 0; }

#else

constexpr int kWarpSize = 32;
template <class V>
PA_DEVICE V shuffle_xor(V v, int mask) {
  return __shfl_xor_sync(0xffffffffu, v, mask);
}
template <class V>
PA_DEVICE V shuffle_from(V v, int lane) {
  return __shfl_sync(0xffffffffu, v, lane);
}
PA_DEVICE bool warp_any(bool v) { return __any_sync(0xffffffffu, v) != 0; }

#endif

// Sum over the whole warp; every lane gets it.
template <class V>
PA_DEVICE V warp_sum(V v) {
  PA_UNROLL
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

}  // namespace portattn
