// Errors: kept for each thread, as HIP does.
#include "hip_runtime/error.h"

namespace gfxsim::hip {
namespace {

struct Failure {
  Error error = kSuccess;
  std::string story;
};

thread_local Error last_error = kSuccess;  // cleared by hipGetLastError
thread_local Failure last_failure;         // stays for hipGetErrorString

const char* name_of(int error) {
  switch (error) {
    case kSuccess:
      return "hipSuccess";
    case kErrorInvalidValue:
      return "hipErrorInvalidValue";
    case kErrorOutOfMemory:
      return "hipErrorOutOfMemory";
    case kErrorInvalidConfiguration:
      return "hipErrorInvalidConfiguration";
    case kErrorInvalidSymbol:
      return "hipErrorInvalidSymbol";
    case kErrorInvalidDeviceFunction:
      return "hipErrorInvalidDeviceFunction";
    case kErrorInvalidDevice:
      return "hipErrorInvalidDevice";
    case kErrorInvalidImage:
      return "hipErrorInvalidImage";
    case kErrorNoBinaryForGpu:
      return "hipErrorNoBinaryForGpu";
    case kErrorInvalidHandle:
      return "hipErrorInvalidHandle";
    case kErrorLaunchFailure:
      return "hipErrorLaunchFailure";
    case kErrorNotSupported:
      return "hipErrorNotSupported";
    default:
      return "hipErrorUnknown";
  }
}

}  // namespace

Error fail(Error error, const std::string& story) {
  last_error = error;
  last_failure = {error, std::string(name_of(error)) + ": " + story};
  return error;
}

}  // namespace gfxsim::hip

using namespace gfxsim::hip;

GFXSIM_HIP_API Error hipPeekAtLastError() { return last_error; }

GFXSIM_HIP_API Error hipGetLastError() {
  const Error error = last_error;
  last_error = kSuccess;
  return error;
}

GFXSIM_HIP_API const char* hipGetErrorName(int error) { return name_of(error); }

GFXSIM_HIP_API const char* hipGetErrorString(int error) {
  return error != kSuccess && error == last_failure.error ? last_failure.story.c_str() : name_of(error);
}
