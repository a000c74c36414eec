// The simulator's HIP runtime against HIP's own headers: every value and the layout of what crosses the boundary.
#include <hip/hip_runtime.h>

#include "hip_runtime/hip_abi.h"

namespace hip = gfxsim::hip;

#define SAME(ours, theirs) static_assert(static_cast<int>(hip::ours) == static_cast<int>(theirs), #theirs)

SAME(kSuccess, hipSuccess);
SAME(kErrorInvalidValue, hipErrorInvalidValue);
SAME(kErrorOutOfMemory, hipErrorOutOfMemory);
SAME(kErrorInvalidConfiguration, hipErrorInvalidConfiguration);
SAME(kErrorInvalidSymbol, hipErrorInvalidSymbol);
SAME(kErrorInvalidDeviceFunction, hipErrorInvalidDeviceFunction);
SAME(kErrorInvalidDevice, hipErrorInvalidDevice);
SAME(kErrorInvalidImage, hipErrorInvalidImage);
SAME(kErrorNoBinaryForGpu, hipErrorNoBinaryForGpu);
SAME(kErrorInvalidHandle, hipErrorInvalidHandle);
SAME(kCaptureStatusNone, hipStreamCaptureStatusNone);
SAME(kErrorLaunchFailure, hipErrorLaunchFailure);
SAME(kErrorNotSupported, hipErrorNotSupported);
SAME(kAttributeComputeCapabilityMajor, hipDeviceAttributeComputeCapabilityMajor);
SAME(kAttributeMaxThreadsPerBlock, hipDeviceAttributeMaxThreadsPerBlock);
SAME(kAttributeComputeCapabilityMinor, hipDeviceAttributeComputeCapabilityMinor);
SAME(kAttributeMultiprocessorCount, hipDeviceAttributeMultiprocessorCount);
SAME(kAttributeMaxSharedMemoryPerBlock, hipDeviceAttributeMaxSharedMemoryPerBlock);
SAME(kAttributeWarpSize, hipDeviceAttributeWarpSize);
SAME(kFunctionAttributeMaxDynamicLds, hipFuncAttributeMaxDynamicSharedMemorySize);
static_assert(sizeof(hip::Dim3) == sizeof(dim3) && sizeof(hip::Stream) == sizeof(hipStream_t));
