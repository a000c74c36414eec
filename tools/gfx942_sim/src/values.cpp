#include "values.h"

#include <algorithm>

namespace gfxsim {
namespace {

constexpr uint32_t kFloat8Nan = 0x80;

int bias(Float8Format format) { return 1 << (format.exponent_bits - 1); }

// Of a positive, finite number: e with 2^e <= value < 2^(e+1).
int exponent_of(float value) {
  int exponent;
  frexpf(value, &exponent);
  return exponent - 1;
}

}  // namespace

float float8_to_float(uint32_t bits, Float8Format format) {
  if ((bits & 0xff) == kFloat8Nan) return NAN;
  const uint32_t exponent = bits >> format.mantissa_bits & ((1u << format.exponent_bits) - 1);
  const float mantissa = static_cast<float>(bits & ((1u << format.mantissa_bits) - 1)) / (1 << format.mantissa_bits);
  const float magnitude = exponent == 0 ? ldexpf(mantissa, 1 - bias(format))
                                        : ldexpf(1 + mantissa, static_cast<int>(exponent) - bias(format));
  return bits & 0x80 ? -magnitude : magnitude;
}

uint32_t float_to_float8(float value, Float8Format format) {
  if (std::isnan(value) || std::isinf(value)) return kFloat8Nan;
  if (value == 0) return 0;
  const int smallest = 1 - bias(format);
  const float magnitude = fabsf(value);
  const int exponent = std::max(exponent_of(magnitude), smallest);
  const float step = ldexpf(1, exponent - format.mantissa_bits);
  const float rounded = std::min(rintf(magnitude / step) * step, float8_to_float(0x7f, format));
  if (rounded == 0) return 0;
  const int rounded_exponent = exponent_of(rounded);
  const uint32_t sign = value < 0 ? 0x80 : 0;
  if (rounded_exponent < smallest)
    return sign | static_cast<uint32_t>(rounded / ldexpf(1, smallest - format.mantissa_bits));
  const float fraction = rounded / ldexpf(1, rounded_exponent) - 1;
  return sign | static_cast<uint32_t>(rounded_exponent + bias(format)) << format.mantissa_bits |
         static_cast<uint32_t>(fraction * (1 << format.mantissa_bits));
}

}  // namespace gfxsim
