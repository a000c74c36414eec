// sm_90: loads of what has just been written through the L2 cache.
#pragma once

#include "device/types.cuh"

namespace portattn::sm90 {

// Four floats from global memory, not from the L1 cache, which does not see what the copy engine writes; 0 where there
// are none. No branch: products may be in flight.
PA_DEVICE float4 load_past_l1(const float* from, bool exists) {
  float4 x;
  asm volatile(
      "{\n"
      ".reg .pred exists;\n"
      "setp.ne.b32 exists, %5, 0;\n"
      "mov.b32 %0, 0f00000000;\n"
      "mov.b32 %1, 0f00000000;\n"
      "mov.b32 %2, 0f00000000;\n"
      "mov.b32 %3, 0f00000000;\n"
      "@exists ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];\n"
      "}"
      : "=&f"(x.x), "=&f"(x.y), "=&f"(x.z), "=&f"(x.w)
      : "l"(from), "r"(static_cast<int>(exists))
      : "memory");
  return x;
}

}  // namespace portattn::sm90
