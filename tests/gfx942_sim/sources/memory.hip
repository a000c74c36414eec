// Global memory, LDS, scratch, buffers, atomic operations.
#include <hip/hip_runtime.h>

#define KERNEL extern "C" __global__ __launch_bounds__(64) void
typedef int int4_t __attribute__((ext_vector_type(4)));
typedef short short2_t __attribute__((ext_vector_type(2)));
typedef _Float16 half2_t __attribute__((ext_vector_type(2)));
#define GLOBAL(T) __attribute__((address_space(1))) T*
#define SHARED(T) __attribute__((address_space(3))) T*

__device__ int counter = 5;

KERNEL count(int* out) {
  if (threadIdx.x == 0) out[blockIdx.x] = atomicAdd(&counter, 1);
}

KERNEL buffers(const int* in, int* out) {
  const int lane = threadIdx.x;
  const auto from = __builtin_amdgcn_make_buffer_rsrc(const_cast<int*>(in), 0, 200, 0x00027000);
  const auto to = __builtin_amdgcn_make_buffer_rsrc(out + 64, 0, 128, 0x00027000);
  out[lane] = __builtin_amdgcn_raw_buffer_load_b32(from, lane * 4, 0, 0);
  __builtin_amdgcn_raw_buffer_store_b32(lane + 5, to, lane * 4, 0, 0);
  const int4_t wide = __builtin_amdgcn_raw_buffer_load_b128(from, lane % 8 * 16, 96, 0);
  *reinterpret_cast<int4_t*>(out + 128 + lane * 4) = wide;
}

KERNEL load_to_lds(const int* in, int* out) {
  __shared__ int tile[256];
  const int lane = threadIdx.x;
  __builtin_amdgcn_global_load_lds((GLOBAL(void))(in + lane), (SHARED(void))tile, 4, 0, 0);
  __builtin_amdgcn_s_waitcnt(0);
  __syncthreads();
  out[lane] = tile[63 - lane];
}

KERNEL atomics(float* sums, int* words, unsigned long long* longs, double* total) {
  __shared__ float shared[2];
  const int lane = threadIdx.x;
  if (lane < 2) shared[lane] = 0;
  __syncthreads();
  atomicAdd(&shared[lane & 1], lane * 0.5f);
  __syncthreads();
  if (lane < 2) sums[8 + lane] = shared[lane];
  unsafeAtomicAdd(&sums[lane & 3], 1.0f);
  atomicAdd(&words[0], lane);
  atomicMax(&words[1], lane ^ 21);
  atomicCAS(&words[2], 0, lane + 1);
  atomicOr(&words[3], 1 << (lane & 31));
  atomicExch(&words[4], 9);
  atomicMin(&words[5], -lane);
  words[8 + atomicAdd(&words[6], 1)] = 1;
  atomicAdd(&longs[0], static_cast<unsigned long long>(lane) << 30);
  unsafeAtomicAdd(total, 0.25 * lane);
}

KERNEL packed_atomics(unsigned* out) {
  const short2_t ones_and_twos = {0x3f80, 0x4000};
  __builtin_amdgcn_global_atomic_fadd_v2bf16((GLOBAL(short2_t))(out + (threadIdx.x & 1)), ones_and_twos);
  __builtin_amdgcn_global_atomic_fadd_v2f16((GLOBAL(half2_t))(out + 2), half2_t{1, 2});
}

// An array that is indexed at run time lives in scratch.
KERNEL scratch(const int* x, int* out, int steps) {
  unsigned values[40];
#pragma nounroll
  for (int i = 0; i < 40; i++) values[i] = x[i] + threadIdx.x;
#pragma nounroll
  for (int i = 0; i < steps; i++) {
    const int j = x[i % 40] % 40;
    values[j] ^= values[(j * 7 + 3) % 40] + i;
  }
  unsigned sum = 0;
#pragma nounroll
  for (int i = 0; i < 40; i++) sum = sum * 31 + values[i];
  out[threadIdx.x] = sum;
}

KERNEL bytes(const unsigned char* x, unsigned char* out, short* shorts) {
  __shared__ unsigned char low[256];
  __shared__ short wide[64];
  const int lane = threadIdx.x;
  low[lane] = x[lane];
  wide[63 - lane] = x[lane] * 3 - 100;
  __syncthreads();
  out[lane] = low[63 - lane];
  shorts[lane] = wide[lane];
  reinterpret_cast<signed char*>(out)[64 + lane] = static_cast<signed char>(x[lane]) >> 1;
}

// Neighbouring shorts of one dword by different waves: no race.
extern "C" __global__ __launch_bounds__(128) void shared_dword(short* out) {
  __shared__ short tile[128];
  const int wave = threadIdx.x / 64, lane = threadIdx.x % 64;
  tile[2 * lane + wave] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = tile[127 - threadIdx.x];
}

extern "C" __global__ __launch_bounds__(256) void dynamic_lds(int* out, int shift) {
  extern __shared__ int tile[];
  tile[threadIdx.x] = threadIdx.x * 2;
  __syncthreads();
  out[blockIdx.x * 256 + threadIdx.x] = tile[(threadIdx.x + shift) % 256] + blockDim.x + 1000 * gridDim.x;
}
