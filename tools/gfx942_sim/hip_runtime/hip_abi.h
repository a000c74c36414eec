// The part of HIP's binary interface that this runtime implements, with the values of ROCm 6 and 7, so that it builds
// without HIP's headers. A test compares them with the headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gfxsim::hip {

struct Dim3 {
  uint32_t x, y, z;
};

using Stream = void*;

enum CaptureStatus : int { kCaptureStatusNone = 0 };

enum Error : int {
  kSuccess = 0,
  kErrorInvalidValue = 1,
  kErrorOutOfMemory = 2,
  kErrorInvalidConfiguration = 9,
  kErrorInvalidSymbol = 13,
  kErrorInvalidDeviceFunction = 98,
  kErrorInvalidDevice = 101,
  kErrorInvalidImage = 200,
  kErrorNoBinaryForGpu = 209,
  kErrorInvalidHandle = 400,
  kErrorLaunchFailure = 719,
  kErrorNotSupported = 801,
};

enum DeviceAttribute : int {
  kAttributeComputeCapabilityMajor = 23,
  kAttributeMaxThreadsPerBlock = 56,
  kAttributeComputeCapabilityMinor = 61,
  kAttributeMultiprocessorCount = 63,
  kAttributeMaxSharedMemoryPerBlock = 74,
  kAttributeWarpSize = 87,
};

enum FunctionAttribute : int { kFunctionAttributeMaxDynamicLds = 8 };

// What the compiler's start-up code hands to __hipRegisterFatBinary.
struct FatBinaryWrapper {
  uint32_t magic;  // kFatBinaryMagic
  uint32_t version;
  const void* binary;
  void* unused;
};

constexpr uint32_t kFatBinaryMagic = 0x48495046;  // "HIPF"

}  // namespace gfxsim::hip

#define GFXSIM_HIP_API extern "C"
