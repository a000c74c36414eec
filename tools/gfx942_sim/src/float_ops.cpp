// Single-precision vector arithmetic. Reciprocals, roots, exponentials and logarithms are correctly rounded or libm's;
// hardware's differ by about 1 ulp.
#include "float_math.h"
#include "lane_op.h"

namespace gfxsim {
namespace {

constexpr double kTwoPi = 6.283185307179586476925;

LaneOp transcendental(LaneOp op) { return of_class(GFXSIM_CLASS_TRANS, std::move(op)); }

}  // namespace

std::vector<LaneOp> float_ops() {
  const auto fma3 = [](float a, float b, float c) { return std::fma(a, b, c); };
  return {
      lane_op("v_add_f32", [](float a, float b) { return a + b; }),
      lane_op("v_sub_f32", [](float a, float b) { return a - b; }),
      lane_op("v_subrev_f32", [](float a, float b) { return b - a; }),
      lane_op("v_mul_f32", [](float a, float b) { return a * b; }),
      lane_op("v_mul_legacy_f32", [](float a, float b) { return a == 0 || b == 0 ? 0.f : a * b; }),
      lane_op("v_max_f32", [](float a, float b) { return maximum(a, b); }),
      lane_op("v_min_f32", [](float a, float b) { return minimum(a, b); }),
      lane_op("v_fma_f32", fma3),
      lane_op("v_fmamk_f32", fma3),
      lane_op("v_fmaak_f32", fma3),
      accumulating(lane_op("v_fmac_f32", fma3)),
      lane_op("v_max3_f32", [](float a, float b, float c) { return maximum(maximum(a, b), c); }),
      lane_op("v_min3_f32", [](float a, float b, float c) { return minimum(minimum(a, b), c); }),
      lane_op("v_med3_f32", [](float a, float b, float c) { return median(a, b, c); }),
      transcendental(lane_op("v_rcp_f32", [](float a) { return 1 / a; })),
      transcendental(lane_op("v_rcp_iflag_f32", [](float a) { return 1 / a; })),
      transcendental(lane_op("v_rsq_f32", [](float a) { return 1 / std::sqrt(a); })),
      transcendental(lane_op("v_sqrt_f32", [](float a) { return std::sqrt(a); })),
      transcendental(lane_op("v_exp_f32", [](float a) { return std::exp2(a); })),
      transcendental(lane_op("v_log_f32", [](float a) { return std::log2(a); })),
      transcendental(lane_op("v_sin_f32", [](float a) { return static_cast<float>(std::sin(a * kTwoPi)); })),
      transcendental(lane_op("v_cos_f32", [](float a) { return static_cast<float>(std::cos(a * kTwoPi)); })),
      lane_op("v_floor_f32", [](float a) { return std::floor(a); }),
      lane_op("v_ceil_f32", [](float a) { return std::ceil(a); }),
      lane_op("v_trunc_f32", [](float a) { return std::trunc(a); }),
      lane_op("v_rndne_f32", [](float a) { return std::rint(a); }),
      lane_op("v_fract_f32", [](float a) { return fraction_of(a); }),
      lane_op("v_frexp_mant_f32", [](float a) { return frexp_mantissa(a); }),
      lane_op("v_frexp_exp_i32_f32", [](float a) { return frexp_exponent(a); }),
      lane_op("v_ldexp_f32", [](float a, int32_t b) { return std::ldexp(a, b); }),
      lane_op("v_div_scale_f32",
              [](float a, float b, float c) {
                const Scaled<float> scaled = div_scale(a, b, c);
                return Flagged<float>{scaled.value, scaled.flag};
              }),
      reading_vcc(lane_op("v_div_fmas_f32",
                          [](float a, float b, float c, Flag scaled) { return div_fmas(a, b, c, scaled.set); })),
      lane_op("v_div_fixup_f32", [](float a, float b, float c) { return div_fixup(a, b, c); }),
  };
}

std::vector<LaneOp> double_ops() {
  std::vector<LaneOp> ops = {
      lane_op("v_add_f64", [](double a, double b) { return a + b; }),
      lane_op("v_mul_f64", [](double a, double b) { return a * b; }),
      lane_op("v_fma_f64", [](double a, double b, double c) { return std::fma(a, b, c); }),
      accumulating(lane_op("v_fmac_f64", [](double a, double b, double c) { return std::fma(a, b, c); })),
      lane_op("v_max_f64", [](double a, double b) { return maximum(a, b); }),
      lane_op("v_min_f64", [](double a, double b) { return minimum(a, b); }),
      lane_op("v_rcp_f64", [](double a) { return 1 / a; }),
      lane_op("v_rsq_f64", [](double a) { return 1 / std::sqrt(a); }),
      lane_op("v_sqrt_f64", [](double a) { return std::sqrt(a); }),
      lane_op("v_floor_f64", [](double a) { return std::floor(a); }),
      lane_op("v_ceil_f64", [](double a) { return std::ceil(a); }),
      lane_op("v_trunc_f64", [](double a) { return std::trunc(a); }),
      lane_op("v_rndne_f64", [](double a) { return std::rint(a); }),
      lane_op("v_fract_f64", [](double a) { return fraction_of(a); }),
      lane_op("v_frexp_mant_f64", [](double a) { return frexp_mantissa(a); }),
      lane_op("v_frexp_exp_i32_f64", [](double a) { return frexp_exponent(a); }),
      lane_op("v_ldexp_f64", [](double a, int32_t b) { return std::ldexp(a, b); }),
      lane_op("v_div_scale_f64",
              [](double a, double b, double c) {
                const Scaled<double> scaled = div_scale(a, b, c);
                return Flagged<double>{scaled.value, scaled.flag};
              }),
      reading_vcc(lane_op("v_div_fmas_f64",
                          [](double a, double b, double c, Flag scaled) { return div_fmas(a, b, c, scaled.set); })),
      lane_op("v_div_fixup_f64", [](double a, double b, double c) { return div_fixup(a, b, c); }),
  };
  for (LaneOp& op : ops) op.cls = GFXSIM_CLASS_VALU_64;
  return ops;
}

std::vector<LaneOp> half_ops() {
  // Through double: a product of halfs and its sum with a third are rounded once.
  const auto fma3 = [](Half a, Half b, Half c) {
    return static_cast<Half>(static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c));
  };
  const auto dot2 = [](uint32_t a, uint32_t b, float c) {
    return half_to_float(a) * half_to_float(b) + half_to_float(a >> 16) * half_to_float(b >> 16) + c;
  };
  return {
      lane_op("v_dot2_f32_f16", dot2),
      accumulating(lane_op("v_dot2c_f32_f16", dot2)),
      lane_op("v_add_f16", [](Half a, Half b) { return static_cast<Half>(a + b); }),
      lane_op("v_sub_f16", [](Half a, Half b) { return static_cast<Half>(a - b); }),
      lane_op("v_subrev_f16", [](Half a, Half b) { return static_cast<Half>(b - a); }),
      lane_op("v_mul_f16", [](Half a, Half b) { return static_cast<Half>(a * b); }),
      lane_op("v_max_f16", [](Half a, Half b) { return static_cast<Half>(maximum<float>(a, b)); }),
      lane_op("v_min_f16", [](Half a, Half b) { return static_cast<Half>(minimum<float>(a, b)); }),
      keeping_high_half(lane_op("v_fma_f16", fma3)),
      accumulating(lane_op("v_fmac_f16", fma3)),
      transcendental(lane_op("v_rcp_f16", [](Half a) { return static_cast<Half>(1 / static_cast<float>(a)); })),
      transcendental(
          lane_op("v_rsq_f16", [](Half a) { return static_cast<Half>(1 / std::sqrt(static_cast<float>(a))); })),
      transcendental(lane_op("v_sqrt_f16", [](Half a) { return static_cast<Half>(std::sqrt(static_cast<float>(a))); })),
      transcendental(lane_op("v_exp_f16", [](Half a) { return static_cast<Half>(std::exp2(static_cast<float>(a))); })),
      transcendental(lane_op("v_log_f16", [](Half a) { return static_cast<Half>(std::log2(static_cast<float>(a))); })),
      lane_op("v_floor_f16", [](Half a) { return static_cast<Half>(std::floor(static_cast<float>(a))); }),
      lane_op("v_ceil_f16", [](Half a) { return static_cast<Half>(std::ceil(static_cast<float>(a))); }),
      lane_op("v_trunc_f16", [](Half a) { return static_cast<Half>(std::trunc(static_cast<float>(a))); }),
      lane_op("v_rndne_f16", [](Half a) { return static_cast<Half>(std::rint(static_cast<float>(a))); }),
      lane_op("v_ldexp_f16", [](Half a, int16_t b) { return static_cast<Half>(std::ldexp(static_cast<float>(a), b)); }),
  };
}

}  // namespace gfxsim
