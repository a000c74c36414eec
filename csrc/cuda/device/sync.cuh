// Barriers of a block and of a warp, and a barrier for the optimiser.
#pragma once

#include "device/types.cuh"

namespace portattn {

#if defined(PORTATTN_TARGET_HOST)

PA_DEVICE void block_sync() {}  // a host block is one thread
PA_DEVICE void warp_sync() {}

template <class V>
PA_DEVICE V opaque(V x) {
  return x;
}

#else

// All threads of the block arrive and wait; shared memory written before is visible after.
PA_DEVICE void block_sync() { __syncthreads(); }
// The same for the lanes of one warp.
PA_DEVICE void warp_sync() { __syncwarp(); }

// Hides how x came about. What derives from it is then computed where it is used; hoisted out of a loop or kept across
// it, dozens of addresses would take the registers that the accumulators need.
template <class V>
PA_DEVICE V opaque(V x) {
  if constexpr (sizeof(V) == 8) {
    asm volatile("" : "+l"(x));
  } else {
    asm volatile("" : "+r"(x));
  }
  return x;
}

#endif

}  // namespace portattn
