// One matrix instruction a kernel: lane t gives A[t], B[t] and C[t] and stores D over C.
#include <hip/hip_runtime.h>

#define VECTOR(name, T, count) typedef T name __attribute__((ext_vector_type(count)))
VECTOR(short4_t, short, 4);
VECTOR(half4_t, _Float16, 4);
VECTOR(int4_t, int, 4);
VECTOR(int16_t_, int, 16);
VECTOR(float4_t, float, 4);
VECTOR(float16_t, float, 16);
VECTOR(float32_t, float, 32);
VECTOR(double4_t, double, 4);

#define MATRIX(name, AB, CD)                                                                      \
  extern "C" __global__ __launch_bounds__(64) void m_##name(const AB* a, const AB* b, CD* c) {    \
    c[threadIdx.x] = __builtin_amdgcn_mfma_##name(a[threadIdx.x], b[threadIdx.x], c[threadIdx.x], 0, 0, 0); \
  }

MATRIX(f32_32x32x8bf16_1k, short4_t, float16_t)
MATRIX(f32_16x16x16bf16_1k, short4_t, float4_t)
MATRIX(f32_32x32x4bf16_1k, short4_t, float32_t)
MATRIX(f32_16x16x4bf16_1k, short4_t, float16_t)
MATRIX(f32_4x4x4bf16_1k, short4_t, float4_t)
MATRIX(f32_32x32x8f16, half4_t, float16_t)
MATRIX(f32_16x16x16f16, half4_t, float4_t)
MATRIX(f32_32x32x4f16, half4_t, float32_t)
MATRIX(f32_16x16x4f16, half4_t, float16_t)
MATRIX(f32_4x4x4f16, half4_t, float4_t)
MATRIX(f32_32x32x2f32, float, float16_t)
MATRIX(f32_16x16x4f32, float, float4_t)
MATRIX(f32_32x32x1f32, float, float32_t)
MATRIX(f32_16x16x1f32, float, float16_t)
MATRIX(f32_4x4x1f32, float, float4_t)
MATRIX(f32_16x16x32_fp8_fp8, long, float4_t)
MATRIX(f32_32x32x16_fp8_fp8, long, float16_t)
MATRIX(f32_16x16x32_bf8_fp8, long, float4_t)
MATRIX(f32_32x32x16_fp8_bf8, long, float16_t)
MATRIX(f32_16x16x32_bf8_bf8, long, float4_t)
MATRIX(i32_16x16x32_i8, long, int4_t)
MATRIX(i32_32x32x16_i8, long, int16_t_)
MATRIX(f64_16x16x4f64, double, double4_t)

// Operands in accumulation registers, a constant for C.
extern "C" __global__ __launch_bounds__(64) void accumulation_registers(const int* a, const short4_t* b, float16_t* c) {
  float16_t result;
  asm volatile(
      "v_accvgpr_write_b32 a0, %1\n v_accvgpr_write_b32 a1, %2\n s_nop 4\n"
      "v_mfma_f32_32x32x8_bf16 %0, a[0:1], %3, 1.0\n s_nop 15\n s_nop 3"
      : "=a"(result)
      : "v"(a[2 * threadIdx.x]), "v"(a[2 * threadIdx.x + 1]), "v"(b[threadIdx.x])
      : "a0", "a1");
  c[threadIdx.x] = result;
}

#if defined(__gfx950__)
VECTOR(bfloat8_t, __bf16, 8);
VECTOR(half8_t, _Float16, 8);
MATRIX(f32_32x32x16_bf16, bfloat8_t, float16_t)
MATRIX(f32_16x16x32_bf16, bfloat8_t, float4_t)
MATRIX(f32_32x32x16_f16, half8_t, float16_t)
MATRIX(f32_16x16x32_f16, half8_t, float4_t)

extern "C" __global__ __launch_bounds__(64) void swap_rows(const unsigned* in, unsigned* out) {
  const int lane = threadIdx.x;
  const auto by32 = __builtin_amdgcn_permlane32_swap(in[lane], in[64 + lane], false, false);
  const auto by16 = __builtin_amdgcn_permlane16_swap(in[lane], in[64 + lane], false, false);
  out[lane] = by32[0];
  out[64 + lane] = by32[1];
  out[128 + lane] = by16[0];
  out[192 + lane] = by16[1];
}

// Lane t names the four numbers from places[t] on.
extern "C" __global__ __launch_bounds__(64) void read_transposed(const short* in, const int* places, short4_t* out) {
  __shared__ short tile[1024];
  for (int i = threadIdx.x; i < 1024; i += 64) tile[i] = in[i];
  __syncthreads();
  typedef short4_t __attribute__((address_space(3))) InLds;
  out[threadIdx.x] = __builtin_amdgcn_ds_read_tr16_b64_v4i16((InLds*)(tile + places[threadIdx.x]));
}

// v_bitop3_b32: neither order of the operands nor sense of the bits can be exchanged in these.
extern "C" __global__ __launch_bounds__(64) void three_bit_operands(const unsigned* in, unsigned* out) {
  const unsigned a = in[threadIdx.x], b = in[64 + threadIdx.x], c = in[128 + threadIdx.x];
  out[threadIdx.x] = (a & ~b) | (~a & b & c);
  out[64 + threadIdx.x] = a ^ (b | ~c);
}

// v_cvt_pk_bf16_f32
extern "C" __global__ __launch_bounds__(64) void to_bfloats(const float* in, __bf16* out) {
  typedef __bf16 bfloat2_t __attribute__((ext_vector_type(2)));
  const bfloat2_t pair = {static_cast<__bf16>(in[2 * threadIdx.x]), static_cast<__bf16>(in[2 * threadIdx.x + 1])};
  reinterpret_cast<bfloat2_t*>(out)[threadIdx.x] = pair;
}
#endif
