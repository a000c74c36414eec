// gfx942 and gfx950 through MFMA: 64 lanes, tiles in the storage type, float (or double) accumulators.
#pragma once

#include "arch/gfx942/layout.cuh"
#include "device/warp.cuh"

namespace portattn::gfx942 {

struct Arch {
  static constexpr int kWarpSize = kLanes;
  static constexpr int kAccAlign = 16;

  // What a block may have of the 64 KiB that a compute unit of gfx942 has.
  static constexpr int kMaxSmemBytes = 64 * 1024;
  // Copies to shared memory pass through registers and are complete when they return: a second buffer hides nothing.
  static constexpr int kCopyStages = 1;

  // Column slots, from a multiple of this on, that share one Philox call: the lane's pairs in a strip of 32 columns.
  static constexpr int kPhiloxSlots = 8;

  template <int M, int N>
  using AccLayout = gfx942::AccLayout<M, N>;
  template <int M, int N>
  using ResultLayout = gfx942::ResultLayout<M, N>;
  template <class T, int Cols>
  using SmemLayout = gfx942::SmemLayout<T, Cols>;
  using ScratchLayout = gfx942::ScratchLayout;
  using TransposedScratchLayout = void;  // no kernel computes dq so
  template <class T>
  using SmemType = T;

  // Does mma_rn pass its first operand through shared memory?
  template <class T>
  static constexpr bool kStagesOperand = sizeof(T) > 4;

  // The four lanes 16 apart share a row.
  template <class V, class F>
  static PA_DEVICE V row_reduce(V v, F f) {
    v = f(v, shuffle_xor(v, 16));
    return f(v, shuffle_xor(v, 32));
  }
};

}  // namespace portattn::gfx942
