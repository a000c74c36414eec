// Kernels with one mistake each, and the same kernels without it.
#include <hip/hip_runtime.h>

#define KERNEL extern "C" __global__ __launch_bounds__(256) void
#define GLOBAL(T) __attribute__((address_space(1))) T*
#define SHARED(T) __attribute__((address_space(3))) T*

KERNEL global_read(const int* in, int* out, int shift) { out[threadIdx.x] = in[static_cast<int>(threadIdx.x) + shift]; }
KERNEL global_write(int* out, int shift) { out[threadIdx.x + shift] = 1; }

KERNEL lds_write(int* out, int shift) {
  __shared__ int tile[256];
  tile[threadIdx.x + shift] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}

KERNEL scratch_write(int* out, int index) {
  volatile int array[16];
  for (int i = 0; i < 16; i++) array[i] = i;
  array[index + threadIdx.x % 2] = 7;
  out[threadIdx.x] = array[threadIdx.x % 16];
}

// Wave w writes what wave w + 1 reads; `barriers` says which of the two barriers are there.
KERNEL rotate(int* out, int barriers) {
  __shared__ int tile[256];
  for (int round = 0; round < 2; ++round) {
    tile[threadIdx.x] = threadIdx.x + round;
    if (barriers & 1) __syncthreads();
    out[threadIdx.x] = tile[(threadIdx.x + 64) % 256];
    if (barriers & 2) __syncthreads();
  }
}

KERNEL uninitialised_lds(float* out) {
  __shared__ float tile[256];
  if (threadIdx.x < 128) tile[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}

KERNEL endless(int* out) {
  while (__hip_atomic_load(out, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT) == 0) __builtin_amdgcn_s_sleep(1);
}
// The last wave releases the others: waves must take turns.
KERNEL released(int* out) {
  if (threadIdx.x >= 192) __hip_atomic_store(out, 1, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  while (__hip_atomic_load(out, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT) == 0) __builtin_amdgcn_s_sleep(1);
}
KERNEL trap(int* out) {
  if (out[0] == 7) __builtin_trap();
  out[1] = 1;
}

// A load by hand; the compiler does not know that it needs a wait.
KERNEL no_wait(const int* in, int* out) {
  int value;
  asm volatile("global_load_dword %0, %1, off\n v_add_u32 %0, 1, %0\n s_waitcnt vmcnt(0)" : "=&v"(value) : "v"(in + threadIdx.x));
  out[threadIdx.x] = value;
}
KERNEL wait(const int* in, int* out) {
  int value;
  asm volatile("global_load_dword %0, %1, off\n s_waitcnt vmcnt(0)\n v_add_u32 %0, 1, %0" : "=&v"(value) : "v"(in + threadIdx.x));
  out[threadIdx.x] = value;
}
// Two loads, waiting for the first one: the first is there, the second is not.
KERNEL wait_for_first(const int* in, int* out, int which) {
  int first, second, sum;
  asm volatile("global_load_dword %0, %3, off\n global_load_dword %1, %3, off offset:4\n s_waitcnt vmcnt(1)\n"
               "v_add_u32 %2, 1, %0\n s_cmp_eq_u32 %4, 0\n s_cbranch_scc1 1f\n v_add_u32 %2, 1, %1\n"
               "1: s_waitcnt vmcnt(0)"
               : "=&v"(first), "=&v"(second), "=&v"(sum) : "v"(in + threadIdx.x), "s"(which) : "scc");
  out[threadIdx.x] = sum;
}
KERNEL no_scalar_wait(const int* in, int* out) {
  int value;
  asm volatile("s_load_dword %0, %1, 0x0\n s_add_i32 %0, %0, 1\n s_waitcnt lgkmcnt(0)" : "=&s"(value) : "s"(in) : "scc");
  out[threadIdx.x] = value;
}

// Two instructions by hand, the second using what the first makes, with as many states between them as the hardware
// wants, or one less. Nothing else is in registers from v16 on; v40 makes the kernel have them.
#define DISTANCE(name, first, between, second)                                                    \
  KERNEL name(const int* in) {                                                                    \
    asm volatile("s_mov_b64 s[20:21], %0\n s_nop 15\n" first "\n" between second                 \
                 "\n s_nop 15\n s_waitcnt vmcnt(0)" ::"s"(in), "v"(0) : "s20", "s21", "v40"); \
  }
#define MATRIX_8_PASSES "v_mfma_f32_32x32x8_f16 v[20:35], v[16:17], v[18:19], 0"
#define MATRIX_4_PASSES "v_mfma_f32_16x16x16_f16 v[20:23], v[16:17], v[18:19], 0"
DISTANCE(matrix_to_vector, MATRIX_8_PASSES, "s_nop 10\n", "v_mov_b32 v40, v35")
DISTANCE(matrix_to_vector_early, MATRIX_8_PASSES, "s_nop 9\n", "v_mov_b32 v40, v35")
DISTANCE(matrix_to_operand, MATRIX_4_PASSES, "s_nop 6\n", "v_mfma_f32_16x16x16_f16 v[24:27], v[22:23], v[18:19], 0")
DISTANCE(matrix_to_operand_early, MATRIX_4_PASSES, "s_nop 5\n",
         "v_mfma_f32_16x16x16_f16 v[24:27], v[22:23], v[18:19], 0")
DISTANCE(matrix_to_sum, MATRIX_4_PASSES, "", "v_mfma_f32_16x16x16_f16 v[20:23], v[16:17], v[18:19], v[20:23]")
#define LOW_ADDRESS "v_mov_b32 v16, s20\n s_nop 4\n v_readfirstlane_b32 s20, v16"
DISTANCE(scalar_to_memory, LOW_ADDRESS, "s_nop 4\n", "global_load_dword v17, %1, s[20:21]")
DISTANCE(scalar_to_memory_early, LOW_ADDRESS, "s_nop 3\n", "global_load_dword v17, %1, s[20:21]")
#define SWAP "v_mov_b32_dpp v17, v16 quad_perm:[1,0,3,2] row_mask:0xf bank_mask:0xf"
DISTANCE(vector_to_dpp, "v_mov_b32 v16, 1", "s_nop 1\n", SWAP)
DISTANCE(vector_to_dpp_early, "v_mov_b32 v16, 1", "s_nop 0\n", SWAP)
DISTANCE(transcendental, "v_exp_f32 v16, 1.0", "s_nop 0\n", "v_mul_f32 v17, v16, v16")
DISTANCE(transcendental_early, "v_exp_f32 v16, 1.0", "", "v_mul_f32 v17, v16, v16")

// Loads straight into LDS, by hand; a wave reads its own part or the next wave's.
template <bool kWait>
__device__ void load_tile(const int* in, int* out, int shift) {
  __shared__ int tile[256];
  const unsigned base = __builtin_amdgcn_readfirstlane(static_cast<unsigned>(threadIdx.x / 64 * 256));
  asm volatile("s_mov_b32 m0, %0\n s_nop 0\n global_load_lds_dword %1, off" ::"s"(base), "v"(in + threadIdx.x) : "memory");
  if (kWait) asm volatile("s_waitcnt vmcnt(0)" ::: "memory");
  asm volatile("s_barrier" ::: "memory");
  int value;
  asm volatile("ds_read_b32 %0, %1\n s_waitcnt lgkmcnt(0)" : "=v"(value) : "v"((threadIdx.x + shift) % 256 * 4), "v"((SHARED(int))tile) : "memory");
  out[threadIdx.x] = value;
}
KERNEL lds_load_wait(const int* in, int* out, int shift) { load_tile<true>(in, out, shift); }
KERNEL lds_load_no_wait(const int* in, int* out, int shift) { load_tile<false>(in, out, shift); }

// s_setreg of the rounding mode: results would differ, so it must not pass silently.
KERNEL rounding(float* out) {
  asm volatile("s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 4), 15");
  out[threadIdx.x] = 1;
}
