// Stands in for csrc/cuda/arch/sm90/cached.cuh.
#pragma once

#include "device/types.cuh"

namespace portattn::sm90 {

PA_DEVICE float4 load_past_l1(const float* from, bool exists) {
  return exists ? make_float4(from[0], from[1], from[2], from[3]) : make_float4(0.f, 0.f, 0.f, 0.f);
}

}  // namespace portattn::sm90
