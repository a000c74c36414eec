// The model's counterpart: the lane maps of sm_80, which sm_90 shares, and what its pipelines use of sm_80's
// instructions.
#pragma once

#include "arch/sm80/layout.cuh"
#include "device/launch.cuh"

namespace portattn {

namespace sm80 {

struct Arch {
  static constexpr int kWarpSize = 32;
  static constexpr int kAccAlign = 4;
  template <int M, int N>
  using AccLayout = sm80::AccLayout<M, N>;
  template <int M, int N>
  using ResultLayout = sm80::AccLayout<M, N>;
  using ScratchLayout = sm80::ScratchLayout;
  using TransposedScratchLayout = sm80::TransposedScratchLayout;

  template <class V, class Op>
  static V row_reduce(V v, Op op) {
    v = op(v, shuffle_xor(v, 1));
    return op(v, shuffle_xor(v, 2));
  }
};

template <class T>
uint32_t pack2(float x, float y) {
  const T pair[2] = {from_acc<T>(x), from_acc<T>(y)};
  uint32_t word;
  std::memcpy(&word, pair, sizeof(word));
  return word;
}
template <class T>
float2 unpack2(uint32_t word) {
  T pair[2];
  std::memcpy(pair, &word, sizeof(word));
  return {to_float(pair[0]), to_float(pair[1])};
}

inline void atomic_add4(float* to, const float (&x)[4]) {
  for (int i = 0; i < 4; ++i) to[i] += x[i];
}

}  // namespace sm80

using namespace sm80;

}  // namespace portattn
