// Floating-point operations that hardware defines and C++ does not: minimum and maximum, the steps of a division,
// classes, fractions. One template for half, float and double.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "values.h"

namespace gfxsim {

template <class T>
struct FloatFormat;
template <>
struct FloatFormat<float> {
  using Bits = uint32_t;
  using Wide = double;
  static constexpr int kMantissa = 23;
  static constexpr int kMaxExponent = 255;
  static constexpr int kScale = 64;     // of v_div_scale
  static constexpr int kScaleGap = 96;  // exponents this far apart are scaled
};
template <>
struct FloatFormat<double> {
  using Bits = uint64_t;
  using Wide = long double;
  static constexpr int kMantissa = 52;
  static constexpr int kMaxExponent = 2047;
  static constexpr int kScale = 128;
  static constexpr int kScaleGap = 768;
};
template <>
struct FloatFormat<Half> {
  using Bits = uint16_t;
  static constexpr int kMantissa = 10;
  static constexpr int kMaxExponent = 31;
};

// A number beats a NaN, and -0 is below +0.
template <class T>
inline T minimum(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class T>
inline T maximum(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
// float is what attention kernels take maxima of all the time: without branches, so that loops over it vectorise.
template <>
inline float maximum(float a, float b) {
  const int32_t x = bit_cast<int32_t>(a), y = bit_cast<int32_t>(b);
  const float equal = bit_cast<float>(x & y);  // of +0 and -0: +0
  const float greater = a > b ? a : (a == b ? equal : b);
  return a != a ? b : (b != b ? a : greater);
}
template <>
inline float minimum(float a, float b) {
  const int32_t x = bit_cast<int32_t>(a), y = bit_cast<int32_t>(b);
  const float equal = bit_cast<float>(x | y);  // of +0 and -0: -0
  const float less = a < b ? a : (a == b ? equal : b);
  return a != a ? b : (b != b ? a : less);
}
template <class T>
inline T median(T a, T b, T c) {
  if (a != a || b != b || c != c) return minimum(minimum(a, b), c);
  return maximum(minimum(a, b), minimum(maximum(a, b), c));
}

template <class T>
inline int biased_exponent(T x) {
  using Format = FloatFormat<T>;
  return static_cast<int>(bit_cast<typename Format::Bits>(x) >> Format::kMantissa) & Format::kMaxExponent;
}
template <class T>
inline bool is_subnormal(T x) {
  return biased_exponent(x) == 0 && x != 0;
}

template <class T>
struct Scaled {
  T value;
  bool flag;
};

// v_div_scale: scales numerator or denominator (whichever `value` is) so that the steps of a division neither overflow
// nor lose bits; the flag tells v_div_fmas to undo it. AMD's description scales a huge denominator up where the
// quotient is subnormal as well; that would overflow, so it is scaled down here, as it must be for a right quotient.
template <class T>
inline Scaled<T> div_scale(T value, T denominator, T numerator) {
  using Format = FloatFormat<T>;
  const T up = static_cast<T>(std::ldexp(value, Format::kScale));
  const T down = static_cast<T>(std::ldexp(value, -Format::kScale));
  if (denominator == 0 || numerator == 0) return {static_cast<T>(NAN), false};
  if (biased_exponent(numerator) - biased_exponent(denominator) >= Format::kScaleGap) {
    return {value == denominator ? up : value, true};
  }
  if (is_subnormal(denominator)) return {up, false};
  const bool small_reciprocal = is_subnormal(T(1) / denominator);
  const bool small_quotient = std::fabs(numerator / denominator) < std::numeric_limits<T>::min();
  if (small_reciprocal && small_quotient) return {value == denominator ? down : value, true};
  if (small_reciprocal) return {down, false};
  if (small_quotient) return {value == numerator ? up : value, true};
  if (biased_exponent(numerator) <= Format::kMantissa + 1) return {up, false};
  return {value, false};
}

// v_div_fmas: the last step, and back from the scaled quotient `c`, which is large where the denominator was scaled up
// and small otherwise. In a wider type, so that a subnormal quotient is rounded once.
template <class T>
inline T div_fmas(T a, T b, T c, bool scaled) {
  if (!scaled) return std::fma(a, b, c);
  using Wide = typename FloatFormat<T>::Wide;
  const int scale = FloatFormat<T>::kScale;
  return static_cast<T>(std::ldexp(std::fma(Wide{a}, Wide{b}, Wide{c}), std::fabs(c) > 1 ? scale : -scale));
}

// v_div_fixup: the quotient that the steps found, or what a special denominator or numerator asks for.
template <class T>
inline T div_fixup(T quotient, T denominator, T numerator) {
  const bool negative = std::signbit(denominator) != std::signbit(numerator);
  const T infinity = static_cast<T>(INFINITY);
  if (numerator != numerator) return numerator;
  if (denominator != denominator) return denominator;
  if (denominator == 0 && numerator == 0) return static_cast<T>(NAN);
  if (std::isinf(denominator) && std::isinf(numerator)) return static_cast<T>(NAN);
  if (denominator == 0 || std::isinf(numerator)) return negative ? -infinity : infinity;
  if (std::isinf(denominator) || numerator == 0) return negative ? -T(0) : T(0);
  if (quotient != quotient) return negative ? -infinity : infinity;  // the steps overflowed
  return negative ? -std::fabs(quotient) : std::fabs(quotient);
}

// The bit v_cmp_class tests for this number.
template <class T>
inline uint32_t float_class(T x) {
  using Format = FloatFormat<T>;
  const auto bits = bit_cast<typename Format::Bits>(x);
  const bool negative = bits >> (sizeof(bits) * 8 - 1);
  const auto mantissa = bits & ((uint64_t{1} << Format::kMantissa) - 1);
  const int exponent = biased_exponent(x);
  if (exponent == Format::kMaxExponent && mantissa != 0) return mantissa >> (Format::kMantissa - 1) ? 1 << 1 : 1 << 0;
  if (exponent == Format::kMaxExponent) return negative ? 1 << 2 : 1 << 9;
  if (exponent != 0) return negative ? 1 << 3 : 1 << 8;
  if (mantissa != 0) return negative ? 1 << 4 : 1 << 7;
  return negative ? 1 << 5 : 1 << 6;
}

template <class T>
inline T fraction_of(T x) {
  const T largest_below_one = static_cast<T>(sizeof(T) == 8 ? 0x1.fffffffffffffp-1 : 0x1.fffffep-1);
  return std::fmin(static_cast<T>(x - std::floor(x)), largest_below_one);
}
template <class T>
inline T frexp_mantissa(T x) {
  int exponent;
  return std::isfinite(x) ? static_cast<T>(std::frexp(x, &exponent)) : x;
}
template <class T>
inline int32_t frexp_exponent(T x) {
  int exponent = 0;
  if (std::isfinite(x)) static_cast<void>(std::frexp(x, &exponent));
  return exponent;
}

// To an integer, rounding to zero; NaN gives 0, what is out of range the nearest value.
template <class I>
inline I saturate(double x, double low, double high) {
  return x != x ? I(0) : x <= low ? static_cast<I>(low) : x >= high ? static_cast<I>(high) : static_cast<I>(x);
}
inline int32_t to_int32(double x) { return saturate<int32_t>(x, -2147483648., 2147483647.); }
inline uint32_t to_uint32(double x) { return saturate<uint32_t>(x, 0., 4294967295.); }

}  // namespace gfxsim
