// Divergence, calls, dynamic register indices, clocks, block and thread numbers.
#include <hip/hip_runtime.h>

#define KERNEL extern "C" __global__ __launch_bounds__(64) void
typedef float float32_t __attribute__((ext_vector_type(32)));

__device__ __attribute__((noinline)) int callee(int x, const int* p) {
  int sum = 0;
  for (int i = 0; i < (x & 7); i++) sum += p[i] * x;
  return sum ^ x;
}

KERNEL calls(const int* x, int* out) {
  const int lane = threadIdx.x;
  out[lane] = callee(x[lane], x) + callee(lane, x + 8);
}

KERNEL divergence(const int* x, int* out, int most) {
  const int lane = threadIdx.x;
  int value = x[lane], steps = 0;
  while (value != 1 && steps < most) {
    value = value & 1 ? 3 * value + 1 : value / 2;
    steps++;
    if (steps == 50 && lane == 7) break;
  }
  out[lane] = steps;
  switch (lane % 9) {
    case 0: steps = 4; break;
    case 1: steps += 11; break;
    case 2: steps *= 3; break;
    case 3: steps = x[3]; break;
    case 4: steps ^= 77; break;
    case 5: steps -= 9; break;
    case 6: steps = -steps; break;
    case 7: steps = steps << 3; break;
    default: steps = 1234;
  }
  out[64 + lane] = steps;
}

KERNEL dynamic_registers(const int* x, int* out, int n) {
  const int lane = threadIdx.x;
  float32_t v;
  for (int i = 0; i < 32; i++) v[i] = static_cast<float>(x[i] + lane);
  for (int i = 0; i < 4; i++) v[(n + i * 3) & 31] = 5.0f + i;
  out[lane] = static_cast<int>(v[(n * 3) & 31]);
  out[64 + lane] = static_cast<int>(v[(lane * 5) & 31]);
}

KERNEL no_effect(long* out) {
  const long a = clock64();
  __builtin_amdgcn_s_sleep(1);
  __builtin_amdgcn_s_setprio(2);
  __builtin_amdgcn_sched_barrier(0);
  const long b = wall_clock64();
  out[threadIdx.x] = (b >= 0) + (a >= 0);
  __threadfence();
  __threadfence_block();
  __builtin_amdgcn_wave_barrier();
}

extern "C" __global__ __launch_bounds__(192) void numbers(int* out) {
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int place = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[place] = threadIdx.x + 100 * threadIdx.y + 1000 * threadIdx.z + 10000 * blockIdx.x + 100000 * blockIdx.y +
               1000000 * blockIdx.z;
}
