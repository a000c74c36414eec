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
template <class Params>
PA_DEVICE const Params& reread(const Params& params) {
  return params;
}

#else

// All threads of the block arrive and wait; shared memory written before is visible after.
PA_DEVICE void block_sync() { __syncthreads(); }

#if defined(PORTATTN_TARGET_HIP)

// The lanes of a warp run in step: this keeps the compiler from moving memory accesses across.
PA_DEVICE void warp_sync() {
  __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
  __builtin_amdgcn_wave_barrier();
}

// Hides how x came about: see below. A pointer stays as it is, or it would no longer be known to be one into shared
// memory.
template <class V>
PA_DEVICE V opaque(V x) {
  if constexpr (!std::is_pointer_v<V>) asm volatile("" : "+v"(x));
  return x;
}

// A kernel's arguments, to be read where they are used: see below.
template <class Params>
PA_DEVICE const Params& reread(const Params& params) {
  auto* constant = (const __attribute__((address_space(4))) Params*)&params;  // NOLINT: changes the address space
  asm volatile("" : "+s"(constant));
  return *(const Params*)constant;  // NOLINT
}

#else

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

// A kernel's arguments, to be read where they are used. NVIDIA's instructions do that; on AMD they are loaded into
// scalar registers, and kept across a loop they would be more than there are.
template <class Params>
PA_DEVICE const Params& reread(const Params& params) {
  return params;
}

#endif
#endif

}  // namespace portattn
