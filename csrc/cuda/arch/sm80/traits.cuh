// sm_80 and later through mma.sync: 32 lanes, tiles in the storage type, float (or double) accumulators.
#pragma once

#include "arch/sm80/layout.cuh"
#include "device/warp.cuh"

namespace portattn::sm80 {

struct Arch {
  static constexpr int kWarpSize = 32;
  static constexpr int kAccAlign = 8;

  // Shared memory that a block of sm_80 may have.
  static constexpr int kMaxSmemBytes = 163 * 1024;
  // Copies to shared memory are asynchronous: one step's can travel while another's are used.
  static constexpr int kCopyStages = 2;

  // Column slots, from a multiple of this on, that share one Philox call: the lane's pairs in four n8 blocks.
  static constexpr int kPhiloxSlots = 8;

  template <int M, int N>
  using AccLayout = sm80::AccLayout<M, N>;
  template <int M, int N>
  using ResultLayout = AccLayout<M, N>;
  template <class T, int Cols>
  using SmemLayout = sm80::SmemLayout<T, Cols>;
  using ScratchLayout = sm80::ScratchLayout;
  using TransposedScratchLayout = sm80::TransposedScratchLayout;
  template <class T>
  using SmemType = T;

  // Does mma_rn pass its first operand through shared memory?
  template <class T>
  static constexpr bool kStagesOperand = sizeof(T) > 2;

  // The four lanes of a quad share a row.
  template <class V, class F>
  static PA_DEVICE V row_reduce(V v, F f) {
    v = f(v, shuffle_xor(v, 1));
    return f(v, shuffle_xor(v, 2));
  }
};

}  // namespace portattn::sm80
