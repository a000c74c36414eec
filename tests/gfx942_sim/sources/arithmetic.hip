// Arithmetic of every width, library functions, conversions.
#include <hip/hip_runtime.h>

#define KERNEL extern "C" __global__ __launch_bounds__(64) void
typedef _Float16 half2_t __attribute__((ext_vector_type(2)));
typedef float float2_t __attribute__((ext_vector_type(2)));

KERNEL functions(const float* x, float* out) {
  const int lane = threadIdx.x;
  const float v = x[lane], a = fabsf(v);
  out[0 * 64 + lane] = sinf(v);
  out[1 * 64 + lane] = cosf(v);
  out[2 * 64 + lane] = tanhf(v);
  out[3 * 64 + lane] = erff(v);
  out[4 * 64 + lane] = expf(v);
  out[5 * 64 + lane] = logf(a);
  out[6 * 64 + lane] = v / (v * v + 1.f);
  out[7 * 64 + lane] = sqrtf(a);
  out[8 * 64 + lane] = powf(a, 1.7f);
  out[9 * 64 + lane] = rsqrtf(a);
  out[10 * 64 + lane] = floorf(v) + rintf(v) + truncf(v) + ceilf(v);
  out[11 * 64 + lane] = fmodf(v, 0.7f);
  out[12 * 64 + lane] = static_cast<float>(static_cast<int>(v * 100)) + static_cast<float>(static_cast<unsigned>(a * 1000));
  out[13 * 64 + lane] = log1pf(a);
  out[14 * 64 + lane] = sinf(v * 1e5f);
  out[15 * 64 + lane] = fmaxf(v, 0.25f) - fminf(v, -0.25f) + __builtin_amdgcn_fmed3f(v, -1.f, 1.f);
  out[16 * 64 + lane] = ldexpf(v, lane % 7 - 3);
}

KERNEL quotients(const float* a, const float* b, float* out) {
  const int i = blockIdx.x * 64 + threadIdx.x;
  out[i] = a[i] / b[i];
}

KERNEL doubles(const double* x, double* out) {
  const int lane = threadIdx.x;
  const double v = x[lane];
  out[lane] = v * v + 1.0 / (v * v + 3);
  out[64 + lane] = sqrt(fabs(v));
  out[128 + lane] = exp(v);
  out[192 + lane] = static_cast<double>(static_cast<float>(v));
  out[256 + lane] = floor(v) + static_cast<double>(static_cast<int>(v));
}

KERNEL halves(const half2_t* x, half2_t* out, float* sums) {
  const int lane = threadIdx.x;
  const half2_t a = x[lane], b = x[63 - lane];
  out[lane] = a * b + a;
  out[64 + lane] = __builtin_elementwise_max(a, b);
  out[128 + lane] = half2_t{static_cast<_Float16>(static_cast<float>(a[0])),
                            static_cast<_Float16>(static_cast<float>(b[1]) * 3)};
  const auto toward_zero = __builtin_amdgcn_cvt_pkrtz(static_cast<float>(a[0]) * 3.3f, static_cast<float>(b[0]));
  out[192 + lane] = __builtin_bit_cast(half2_t, toward_zero);
  sums[lane] = __builtin_amdgcn_fdot2(a, b, 1.5f, false);
  sums[64 + lane] = static_cast<float>(a[0]) + static_cast<float>(b[1]);
}

KERNEL packed_floats(const float2_t* x, float2_t* out) {
  const int lane = threadIdx.x;
  const float2_t a = x[lane], b = x[63 - lane];
  out[lane] = a * b;
  out[64 + lane] = a + b;
  out[128 + lane] = __builtin_elementwise_fma(a, b, float2_t{b[1], a[0]});
  out[192 + lane] = a - b[0];
}

KERNEL small_floats(const float* x, unsigned* fp8, unsigned* bf8, float* back) {
  const int lane = threadIdx.x;
  int packed = __builtin_amdgcn_cvt_pk_fp8_f32(x[lane], x[63 - lane], 0, false);
  packed = __builtin_amdgcn_cvt_pk_fp8_f32(x[lane] * 2, x[63 - lane] * .01f, packed, true);
  fp8[lane] = packed;
  back[lane] = __builtin_amdgcn_cvt_f32_fp8(packed, 0) + __builtin_amdgcn_cvt_f32_fp8(packed, 3);
  bf8[lane] = __builtin_amdgcn_cvt_pk_bf8_f32(x[lane], x[63 - lane], 0, false);
}

KERNEL bfloats(const float* x, unsigned short* out, float* back) {
  const int lane = threadIdx.x;
  out[lane] = __builtin_bit_cast(unsigned short, static_cast<__bf16>(x[lane]));
  back[lane] = static_cast<float>(static_cast<__bf16>(x[63 - lane]));
}

KERNEL integers(const int* x, long* out) {
  const int lane = threadIdx.x;
  const int v = x[lane];
  const unsigned u = v;
  out[0 * 64 + lane] = v / (lane + 3);
  out[1 * 64 + lane] = v % (lane - 100);
  out[2 * 64 + lane] = static_cast<long>(v) * 123456789123l / (lane + 1) >> 3;
  out[3 * 64 + lane] = u / 7 + __umulhi(u, 0x9e3779b9u);
  out[4 * 64 + lane] = __brev(u);
  out[5 * 64 + lane] = __popc(u) * 1000 + __clz(lane + 1) * 10 + __ffs(u);
  out[6 * 64 + lane] = __byte_perm(u, ~u, 0x2653);
  out[7 * 64 + lane] = static_cast<long>(u) << (lane % 40) >> 3;
  out[8 * 64 + lane] = (static_cast<signed char>(v) >> 1) + static_cast<short>(v * 3);
  out[9 * 64 + lane] = __mulhi(v, -123456) + __mul24(v, lane - 7) + min(v, 5) + max(lane, 9);
}
