// The model's counterpart: lanes meet to exchange registers.
#pragma once

#include "device/types.cuh"
#include "model.h"

namespace portattn {

constexpr int kWarpSize = 32;

template <class V>
V shuffle_xor(V v, int mask) {
  return model::exchange(v, model::lane() ^ mask);
}
template <class V>
V shuffle_from(V v, int lane) {
  return model::exchange(v, lane);
}
template <class V>
V warp_sum(V v) {
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}
inline bool warp_any(bool v) { return warp_sum(static_cast<int>(v)) != 0; }

}  // namespace portattn
