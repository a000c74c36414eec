// What core needs from a device runtime besides launches: devices, their names, the current one, error texts, and a
// look at device memory.
// Functions return 0 or the runtime's own error code.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "device/launch.cuh"
#include "plugin.h"

namespace portattn {

#if defined(PORTATTN_TARGET_HOST)

#if defined(__AVX512F__)
constexpr const char* kBuiltArchs = "avx512";
#elif defined(__AVX2__)
constexpr const char* kBuiltArchs = "avx2";
#else
constexpr const char* kBuiltArchs = "generic";
#endif
#if defined(__x86_64__)
constexpr const char* kHostName = "x86-64";
#elif defined(__aarch64__)
constexpr const char* kHostName = "aarch64";
#else
constexpr const char* kHostName = "host";
#endif
constexpr const char* kTargetName = "host";

inline int32_t runtime_num_devices() { return 1; }

inline int runtime_device_info(int32_t /*device*/, DeviceInfo* info) {
  std::snprintf(info->name, sizeof(info->name), "%s %s", kHostName, kBuiltArchs);
  info->arch = 0;
  info->num_multiprocessors = 1;
  return 0;
}

inline int runtime_set_device(int32_t /*device*/, int32_t* previous) {
  *previous = 0;
  return 0;
}

inline int runtime_read_back(void* to, const void* from, int64_t bytes, void* /*stream*/, bool* is_read) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
  *is_read = true;
  return 0;
}

inline const char* runtime_error_text(int code) {
  switch (code) {
    case 0:
      return "no error";
    case kHostOutOfMemory:
      return "out of memory for the scratch tiles of a kernel";
    case kLaunchTooLarge:
      return "the launch grid is larger than a device takes";
    default:
      return "unknown error";
  }
}

#else

#if !defined(PORTATTN_BUILT_ARCHS)
#error "the build must define PORTATTN_BUILT_ARCHS, for example \"sm80 sm90a\""
#endif
constexpr const char* kBuiltArchs = PORTATTN_BUILT_ARCHS;

inline int32_t runtime_num_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  static_cast<void>(cudaGetLastError());  // a machine without a driver is no error of the calls that follow
  return 0;
}

#if defined(PORTATTN_TARGET_HIP)

constexpr const char* kTargetName = "hip";

// The number in "gfx942". Its last digit, the stepping, is no attribute; of 9.4 only gfx942 was ever sold.
inline int32_t gfx_number(int major, int minor) {
  return major * 100 + minor * 10 + (major == 9 && minor == 4 ? 2 : 0);
}

// Not from hipGetDeviceProperties: its struct differs between releases of ROCm, and one build serves them all.
inline int runtime_device_info(int32_t device, DeviceInfo* info) {
  int major = 0, minor = 0;
  hipError_t error = hipDeviceGetName(info->name, static_cast<int>(sizeof(info->name)), device);
  if (error == hipSuccess) error = hipDeviceGetAttribute(&major, hipDeviceAttributeComputeCapabilityMajor, device);
  if (error == hipSuccess) error = hipDeviceGetAttribute(&minor, hipDeviceAttributeComputeCapabilityMinor, device);
  info->arch = gfx_number(major, minor);
  if (error != hipSuccess) return static_cast<int>(error);
  return static_cast<int>(
      hipDeviceGetAttribute(&info->num_multiprocessors, hipDeviceAttributeMultiprocessorCount, device));
}

#else

constexpr const char* kTargetName = "cuda";

inline int runtime_device_info(int32_t device, DeviceInfo* info) {
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return static_cast<int>(error);
  std::snprintf(info->name, sizeof(info->name), "%s", properties.name);
  info->arch = properties.major * 100 + properties.minor * 10;
  info->num_multiprocessors = properties.multiProcessorCount;
  return 0;
}

#endif

inline int runtime_set_device(int32_t device, int32_t* previous) {
  cudaError_t error = cudaGetDevice(previous);
  if (error == cudaSuccess && *previous != device) error = cudaSetDevice(device);
  return static_cast<int>(error);
}

inline int runtime_read_back(void* to, const void* from, int64_t bytes, void* stream, bool* is_read) {
  const auto on = static_cast<cudaStream_t>(stream);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaError_t error = cudaStreamIsCapturing(on, &capture);
  *is_read = error == cudaSuccess && capture == cudaStreamCaptureStatusNone;
  if (!*is_read) return static_cast<int>(error);
  error = cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, on);
  if (error == cudaSuccess) error = cudaStreamSynchronize(on);
  return static_cast<int>(error);
}

inline const char* runtime_error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

#endif

}  // namespace portattn
