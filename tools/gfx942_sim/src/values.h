// The number formats of the machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace gfxsim {

using Half = _Float16;

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast between types of one size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

inline float half_to_float(uint32_t bits) { return static_cast<float>(bit_cast<Half>(static_cast<uint16_t>(bits))); }
inline uint16_t float_to_half(float value) { return bit_cast<uint16_t>(static_cast<Half>(value)); }

inline float bfloat_to_float(uint32_t bits) { return bit_cast<float>(bits << 16); }

// Round to nearest even; a NaN stays one, and becomes quiet.
inline uint16_t float_to_bfloat(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// 8-bit floats of gfx942: FNUZ (no infinity, no -0, NaN is 0x80), round to nearest even, saturating. gfx950 has the
// OCP formats instead.
struct Float8Format {
  int exponent_bits;
  int mantissa_bits;
};
constexpr Float8Format kFp8 = {4, 3};
constexpr Float8Format kBf8 = {5, 2};

float float8_to_float(uint32_t bits, Float8Format format);
uint32_t float_to_float8(float value, Float8Format format);

}  // namespace gfxsim
