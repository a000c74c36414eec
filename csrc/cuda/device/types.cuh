// Function qualifiers and 16-bit floating point types of the three targets. The only place, with the rest of device/,
// where a vendor's spelling appears. PORTATTN_TARGET_HOST selects plain C++ for the CPU, PORTATTN_TARGET_HIP AMD's
// GPUs.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "attn/params.h"

#if defined(PORTATTN_TARGET_HOST)
#define PA_DEVICE inline __attribute__((always_inline))
#define PA_HOST_DEVICE inline __attribute__((always_inline))
#define PA_UNROLL
#define PA_NO_UNROLL
#else
#if defined(PORTATTN_TARGET_HIP)
#include <hip/hip_runtime.h>
#define PA_GRID_CONSTANT  // kernel arguments are constant as they are
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define PA_GRID_CONSTANT __grid_constant__
#endif
#define PA_DEVICE __device__ __forceinline__
#define PA_HOST_DEVICE __host__ __device__ __forceinline__
#define PA_UNROLL _Pragma("unroll")
#define PA_NO_UNROLL _Pragma("unroll 1")
#endif

namespace portattn {

#if defined(PORTATTN_TARGET_HOST)

struct bf16 {
  uint16_t bits;
};
using half = _Float16;

PA_DEVICE float to_float(bf16 x) {
  uint32_t u = static_cast<uint32_t>(x.bits) << 16;
  float f;
  memcpy(&f, &u, sizeof(f));
  return f;
}
PA_DEVICE float to_float(half x) { return static_cast<float>(x); }

// Round to nearest even; NaN stays NaN. Branch-free so that loops over it vectorise.
PA_DEVICE bf16 float_to_bf16(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof(u));
  uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  uint32_t is_nan = (u & 0x7fffffffu) > 0x7f800000u;
  return bf16{static_cast<uint16_t>(is_nan ? 0x7fc0u : rounded)};
}
PA_DEVICE half float_to_half(float f) { return static_cast<half>(f); }

#elif defined(PORTATTN_TARGET_HIP)

using bf16 = __bf16;
using half = _Float16;

PA_DEVICE float to_float(bf16 x) { return static_cast<float>(x); }
PA_DEVICE float to_float(half x) { return static_cast<float>(x); }
PA_DEVICE bf16 float_to_bf16(float f) { return static_cast<bf16>(f); }
PA_DEVICE half float_to_half(float f) { return static_cast<half>(f); }

#else

using bf16 = __nv_bfloat16;
using half = __half;

PA_DEVICE float to_float(bf16 x) { return __bfloat162float(x); }
PA_DEVICE float to_float(half x) { return __half2float(x); }
PA_DEVICE bf16 float_to_bf16(float f) { return __float2bfloat16_rn(f); }
PA_DEVICE half float_to_half(float f) { return __float2half_rn(f); }

#endif

PA_DEVICE float to_float(float x) { return x; }
PA_DEVICE double to_float(double x) { return x; }

// Rounds an accumulator value to a storage type.
template <class T, class Acc>
PA_DEVICE T from_acc(Acc x) {
  if constexpr (std::is_same_v<T, bf16>) {
    return float_to_bf16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<T, half>) {
    return float_to_half(static_cast<float>(x));
  } else {
    return static_cast<T>(x);
  }
}

// What sums, scores and probabilities of T are kept in.
template <class T>
using AccOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<half> {
  static constexpr DType value = DType::kFloat16;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::kBFloat16;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};

}  // namespace portattn
