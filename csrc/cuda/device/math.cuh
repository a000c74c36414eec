// Scalar maths of the softmax on every target: exp2, log2, tanh and friends. Host versions are branch-free
// polynomials, so that loops over a tile vectorise; they are accurate to about 2 ulp of float.
#pragma once

#include <cmath>

#include "device/types.cuh"

namespace portattn {

// Cast to the accumulator type where they are used: Acc(kLog2e).
constexpr double kLog2e = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

template <class Acc>
PA_HOST_DEVICE constexpr Acc neg_inf() {
  return static_cast<Acc>(-INFINITY);
}

#if defined(PORTATTN_TARGET_HOST)

// 2^x = 2^n * 2^f, f in [-1/2, 1/2]: Taylor in f * ln 2 to degree 7 (error 4e-9), n by the 1.5 * 2^23 rounding trick.
// x <= -127 gives 0 (no subnormals), x > 128 gives inf, NaN gives NaN.
PA_DEVICE float fast_exp2(float x) {
  constexpr float kRound = 12582912.f;
  float clamped = x < -127.f ? -127.f : (x > 128.f ? 128.f : x);
  float shifted = clamped + kRound;
  float f = clamped - (shifted - kRound);
  float r = 1.52527338e-5f;
  r = r * f + 1.54035304e-4f;
  r = r * f + 1.33335581e-3f;
  r = r * f + 9.61812911e-3f;
  r = r * f + 5.55041087e-2f;
  r = r * f + 2.40226507e-1f;
  r = r * f + 6.93147181e-1f;
  r = r * f + 1.0f;
  int32_t n;
  memcpy(&n, &shifted, sizeof(n));
  uint32_t bits = static_cast<uint32_t>(n - 0x4b400000 + 127) << 23;  // n = -127 gives the bits of 0, n = 128 of inf
  float scale;
  memcpy(&scale, &bits, sizeof(scale));
  float y = r * scale;
  return x != x ? x : y;
}
PA_DEVICE double fast_exp2(double x) { return std::exp2(x); }
PA_DEVICE float fast_quotient(float a, float b) { return a / b; }
PA_DEVICE float log2_acc(float x) { return std::log2(x); }
PA_DEVICE double log2_acc(double x) { return std::log2(x); }
template <class Acc>
PA_DEVICE Acc max_acc(Acc a, Acc b) {
  return a > b ? a : b;
}

#else

#if defined(PORTATTN_TARGET_HIP)
PA_DEVICE float fast_exp2(float x) { return __builtin_amdgcn_exp2f(x); }
PA_DEVICE float fast_quotient(float a, float b) { return a * __builtin_amdgcn_rcpf(b); }
#else
PA_DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
PA_DEVICE float fast_quotient(float a, float b) { return __fdividef(a, b); }
#endif
PA_DEVICE double fast_exp2(double x) { return exp2(x); }
PA_DEVICE float log2_acc(float x) { return log2f(x); }
PA_DEVICE double log2_acc(double x) { return log2(x); }
PA_DEVICE float max_acc(float a, float b) { return fmaxf(a, b); }
PA_DEVICE double max_acc(double a, double b) { return fmax(a, b); }

#endif

// tanh(|x|) = (1 - t) / (1 + t), t = exp(-2 |x|); near 0, where that cancels, the odd series.
PA_DEVICE float fast_tanh(float x) {
  const float ax = x < 0.f ? -x : x;
  const float t = fast_exp2(static_cast<float>(-2. * kLog2e) * ax);
  const float far = fast_quotient(1.f - t, 1.f + t);
  const float x2 = ax * ax;
  const float near = ax * (1.f + x2 * (-0.333333333f + x2 * (0.133333333f - 0.0539682540f * x2)));
  const float y = ax < 0.1f ? near : far;
  return x < 0.f ? -y : y;
}
PA_DEVICE double fast_tanh(double x) { return tanh(x); }

PA_HOST_DEVICE uint32_t mul_high(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
}

// n / f.divisor for 0 <= n < 2^31 and f.divisor >= 1.
PA_HOST_DEVICE int32_t fast_divide(int32_t n, const FastDivisor& f) {
  if (f.divisor == 1) return n;
  return static_cast<int32_t>(mul_high(static_cast<uint32_t>(n), f.magic) >> f.shift);
}

// Integer helpers shared by schedulers and launchers.
template <class I>
PA_HOST_DEVICE constexpr I ceil_div(I a, I b) {
  return (a + b - 1) / b;
}
template <class I>
PA_HOST_DEVICE constexpr I min_of(I a, I b) {
  return a < b ? a : b;
}
template <class I>
PA_HOST_DEVICE constexpr I max_of(I a, I b) {
  return a > b ? a : b;
}
template <class I>
PA_HOST_DEVICE constexpr I clamp(I x, I lo, I hi) {
  return x < lo ? lo : (x > hi ? hi : x);
}

}  // namespace portattn
