// Small kernels, launched with <<<>>>, behind C functions that return HIP's error code.
#include <hip/hip_runtime.h>

__constant__ float scale[4];
__device__ int launches;

__global__ void scaled_sum(const float* a, const float* b, float* sum, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i == 0) atomicAdd(&launches, 1);
  if (i < n) sum[i] = scale[i % 4] * (a[i] + b[i]);
}

__global__ void __launch_bounds__(128) reverse_in_lds(const int* in, int* out) {
  extern __shared__ int shared[];
  shared[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int set_scale(const float* values) {
  return hipMemcpyToSymbol(HIP_SYMBOL(scale), values, sizeof(scale), 0, hipMemcpyHostToDevice);
}

EXPORT int count_launches(int* count) {
  return hipMemcpyFromSymbol(count, HIP_SYMBOL(launches), sizeof(launches), 0, hipMemcpyDeviceToHost);
}

EXPORT int launch_scaled_sum(const float* a, const float* b, float* sum, int n) {
  scaled_sum<<<(n + 255) / 256, 256>>>(a, b, sum, n);
  return hipGetLastError();
}

EXPORT int launch_reverse(const int* in, int* out, int blocks, int threads, int lds_bytes) {
  reverse_in_lds<<<blocks, threads, lds_bytes>>>(in, out);
  return hipGetLastError();
}

EXPORT int allow_lds(int bytes) {
  return hipFuncSetAttribute(reinterpret_cast<const void*>(&reverse_in_lds),
                             hipFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

EXPORT int launch_unregistered() {
  const hipError_t error =
      hipLaunchKernel(reinterpret_cast<const void*>(&set_scale), dim3(1), dim3(64), nullptr, 0, nullptr);
  return hipGetLastError() == error ? error : hipErrorUnknown;
}

// What a program does around its launches: device memory, copies, a stream and events.
EXPORT int scaled_sum_in_device_memory(const float* a, const float* b, float* sum, int n, float* milliseconds) {
  const size_t bytes = n * sizeof(float);
  float *d_a, *d_b, *d_sum;
  hipStream_t stream;
  hipEvent_t start, stop;
  int failures = hipStreamCreate(&stream) + hipEventCreate(&start) + hipEventCreate(&stop);
  for (float** memory : {&d_a, &d_b, &d_sum}) failures += hipMalloc(reinterpret_cast<void**>(memory), bytes);
  failures += hipMemcpyAsync(d_a, a, bytes, hipMemcpyHostToDevice, stream);
  failures += hipMemcpyAsync(d_b, b, bytes, hipMemcpyHostToDevice, stream);
  failures += hipEventRecord(start, stream);
  scaled_sum<<<(n + 255) / 256, 256, 0, stream>>>(d_a, d_b, d_sum, n);
  failures += hipGetLastError() + hipEventRecord(stop, stream) + hipEventSynchronize(stop);
  failures += hipEventElapsedTime(milliseconds, start, stop);
  failures += hipMemcpy(sum, d_sum, bytes, hipMemcpyDeviceToHost);
  for (float* memory : {d_a, d_b, d_sum}) failures += hipFree(memory);
  return failures + hipEventDestroy(start) + hipEventDestroy(stop) + hipStreamDestroy(stream);
}
