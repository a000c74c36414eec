// Products by multiply-adds on any accumulator layout, for types that have no matrix instruction.
#pragma once

#include "device/sync.cuh"
#include "device/types.cuh"

namespace portattn {

// acc += A . B by multiply-adds; a(lane, s, k) and b(lane, k, c) give the operands of row slot s and column slot c. The
// lane is made opaque in every step, or the addresses of all steps would be kept in registers.
template <int Depth, class Acc, class A, class B>
PA_DEVICE void fma_slots(Acc& acc, int lane, A a, B b) {
  using V = typename Acc::Value;
#pragma unroll 2
  for (int k = 0; k < Depth; ++k) {
    lane = opaque(lane);
    V x[Acc::kRowSlots];
    PA_UNROLL
    for (int s = 0; s < Acc::kRowSlots; ++s) x[s] = a(lane, s, k);
    PA_UNROLL
    for (int c = 0; c < Acc::kColSlots; ++c) {
      const V y = b(lane, k, c);
      PA_UNROLL
      for (int s = 0; s < Acc::kRowSlots; ++s) acc.at(s, c) += x[s] * y;
    }
  }
}

}  // namespace portattn
