// Conversions between number formats.
#include "float_math.h"
#include "lane_op.h"

namespace gfxsim {
namespace {

// To half, rounding to zero: the nearest half, one step back where that went away from zero.
uint32_t half_toward_zero(float value) {
  const Half nearest = static_cast<Half>(value);
  const uint16_t bits = bit_cast<uint16_t>(nearest);
  return std::fabs(static_cast<float>(nearest)) > std::fabs(value) ? bits - 1u : bits;
}

uint32_t pack(uint32_t low, uint32_t high) { return (low & 0xffff) | high << 16; }

uint32_t clamp_to(uint32_t value, uint32_t largest) { return value < largest ? value : largest; }

int16_t normalized16(float value) {
  return static_cast<int16_t>(std::rint(std::fmin(std::fmax(value, -1.f), 1.f) * 32767));
}

uint16_t pack_float8(float low, float high, Float8Format format) {
  return static_cast<uint16_t>(float_to_float8(low, format) | float_to_float8(high, format) << 8);
}

// Two floats of a register pair.
uint64_t unpack_float8(uint32_t bits, Float8Format format) {
  const uint64_t high = bit_cast<uint32_t>(float8_to_float(bits >> 8 & 0xff, format));
  return bit_cast<uint32_t>(float8_to_float(bits & 0xff, format)) | high << 32;
}

template <int kByte>
LaneOp byte_to_float() {
  return lane_op("v_cvt_f32_ubyte" + std::to_string(kByte),
                 [](uint32_t a) { return static_cast<float>(a >> (8 * kByte) & 0xff); });
}

}  // namespace

std::vector<LaneOp> conversion_ops() {
  return {
      lane_op("v_cvt_f32_i32", [](int32_t a) { return static_cast<float>(a); }),
      lane_op("v_cvt_f32_u32", [](uint32_t a) { return static_cast<float>(a); }),
      lane_op("v_cvt_i32_f32", [](float a) { return to_int32(a); }),
      lane_op("v_cvt_u32_f32", [](float a) { return to_uint32(a); }),
      lane_op("v_cvt_rpi_i32_f32", [](float a) { return to_int32(std::floor(double{a} + 0.5)); }),
      lane_op("v_cvt_flr_i32_f32", [](float a) { return to_int32(std::floor(double{a})); }),
      lane_op("v_cvt_f16_f32", [](float a) { return static_cast<Half>(a); }),
      lane_op("v_cvt_f32_f16", [](Half a) { return static_cast<float>(a); }),
      lane_op("v_cvt_f16_u16", [](uint16_t a) { return static_cast<Half>(a); }),
      lane_op("v_cvt_f16_i16", [](int16_t a) { return static_cast<Half>(a); }),
      lane_op("v_cvt_u16_f16",
              [](Half a) { return static_cast<uint16_t>(saturate<uint32_t>(static_cast<double>(a), 0, 65535)); }),
      lane_op("v_cvt_i16_f16",
              [](Half a) { return static_cast<int16_t>(saturate<int32_t>(static_cast<double>(a), -32768, 32767)); }),
      lane_op("v_cvt_f64_f32", [](float a) { return double{a}; }),
      lane_op("v_cvt_f32_f64", [](double a) { return static_cast<float>(a); }),
      lane_op("v_cvt_f64_i32", [](int32_t a) { return double(a); }),
      lane_op("v_cvt_f64_u32", [](uint32_t a) { return double(a); }),
      lane_op("v_cvt_i32_f64", [](double a) { return to_int32(a); }),
      lane_op("v_cvt_u32_f64", [](double a) { return to_uint32(a); }),
      byte_to_float<0>(),
      byte_to_float<1>(),
      byte_to_float<2>(),
      byte_to_float<3>(),
      lane_op("v_cvt_pkrtz_f16_f32", [](float a, float b) { return pack(half_toward_zero(a), half_toward_zero(b)); }),
      lane_op("v_cvt_pk_bf16_f32", [](float a, float b) { return pack(float_to_bfloat(a), float_to_bfloat(b)); }),
      lane_op("v_cvt_pk_f16_f32", [](float a, float b) { return pack(float_to_half(a), float_to_half(b)); }),
      lane_op("v_cvt_pk_u16_u32", [](uint32_t a, uint32_t b) { return pack(clamp_to(a, 65535), clamp_to(b, 65535)); }),
      lane_op("v_cvt_pknorm_i16_f32",
              [](float a, float b) {
                return pack(static_cast<uint16_t>(normalized16(a)), static_cast<uint16_t>(normalized16(b)));
              }),
      lane_op("v_pack_b32_f16", [](uint16_t a, uint16_t b) { return pack(a, b); }),
      lane_op("v_cvt_f32_fp8", [](uint32_t a) { return float8_to_float(a & 0xff, kFp8); }),
      lane_op("v_cvt_f32_bf8", [](uint32_t a) { return float8_to_float(a & 0xff, kBf8); }),
      keeping_high_half(lane_op("v_cvt_pk_fp8_f32", [](float a, float b) { return pack_float8(a, b, kFp8); })),
      keeping_high_half(lane_op("v_cvt_pk_bf8_f32", [](float a, float b) { return pack_float8(a, b, kBf8); })),
      lane_op("v_cvt_pk_f32_fp8", [](uint16_t a) { return unpack_float8(a, kFp8); }),
      lane_op("v_cvt_pk_f32_bf8", [](uint16_t a) { return unpack_float8(a, kBf8); }),
      lane_op("v_cvt_f32_bf16", [](uint16_t a) { return bfloat_to_float(a); }),
  };
}

}  // namespace gfxsim
