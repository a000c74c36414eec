// Host arch: a warp is one lane that owns whole tiles in memory; the compiler's vectors do what lanes do elsewhere.
#pragma once

#include "arch/host/layout.cuh"
#include "device/types.cuh"

namespace portattn::host {

struct Arch {
  static constexpr int kWarpSize = 1;
  static constexpr int kAccAlign = 64;

  static constexpr int kMaxSmemBytes = INT32_MAX;
  static constexpr int kCopyStages = 2;  // as on a GPU, whose loops are so tested

  // Neighbouring column slots that share one Philox call.
  static constexpr int kPhiloxSlots = 2;

  template <int M, int N>
  using AccLayout = host::AccLayout<M, N>;
  template <int M, int N>
  using ResultLayout = AccLayout<M, N>;
  template <class T, int Cols>
  using SmemLayout = host::SmemLayout<T, Cols>;
  using ScratchLayout = host::ScratchLayout;
  using TransposedScratchLayout = void;  // no kernel computes dq so
  // Tiles are widened once, when they are loaded, so that every inner loop runs in full precision.
  template <class T>
  using SmemType = AccOf<T>;

  // Does mma_rn pass its first operand through shared memory?
  template <class T>
  static constexpr bool kStagesOperand = false;

  template <class V, class F>
  static PA_DEVICE V row_reduce(V v, F) {
    return v;
  }
};

}  // namespace portattn::host
