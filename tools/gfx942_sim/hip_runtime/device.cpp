// Devices, their attributes, and the streams and events of a device on which everything is done at once.
#include "hip_runtime/device.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "hip_runtime/error.h"

namespace gfxsim::hip {
namespace {

struct Arch {
  const char* name;
  int major, minor;
  int multiprocessors;
  uint32_t lds_bytes;
};

// An MI300X and an MI355X.
constexpr Arch kArchs[] = {{"gfx942", 9, 4, 304, 64 * 1024}, {"gfx950", 9, 5, 256, 160 * 1024}};

const Arch& arch() {
  static const Arch& chosen = []() -> const Arch& {
    const char* asked = std::getenv("GFX942_SIM_ARCH");
    if (asked == nullptr || *asked == '\0') return kArchs[0];
    for (const Arch& each : kArchs) {
      if (std::strcmp(each.name, asked) == 0) return each;
    }
    std::fprintf(stderr, "gfx942_sim: GFX942_SIM_ARCH is '%s'; allowed are gfx942 and gfx950; using gfx942\n", asked);
    return kArchs[0];
  }();
  return chosen;
}

Error check_device(int device) {
  if (device == 0) return kSuccess;
  return fail(kErrorInvalidDevice, "device " + std::to_string(device) + " does not exist, 0 is the only one");
}

using Clock = std::chrono::steady_clock;

struct Event {
  Clock::time_point time;
};

}  // namespace

const std::string& device_arch() {
  static const std::string kName = arch().name;
  return kName;
}

uint32_t device_lds_bytes() { return arch().lds_bytes; }

}  // namespace gfxsim::hip

using namespace gfxsim::hip;

GFXSIM_HIP_API Error hipGetDeviceCount(int* count) {
  *count = 1;
  return kSuccess;
}

GFXSIM_HIP_API Error hipGetDevice(int* device) {
  *device = 0;
  return kSuccess;
}

GFXSIM_HIP_API Error hipSetDevice(int device) { return check_device(device); }

GFXSIM_HIP_API Error hipDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return check_device(ordinal);
}

GFXSIM_HIP_API Error hipDeviceGetName(char* name, int size, int device) {
  if (const Error error = check_device(device)) return error;
  std::snprintf(name, static_cast<size_t>(size), "%s simulated on the CPU", arch().name);
  return kSuccess;
}

GFXSIM_HIP_API Error hipDeviceGetAttribute(int* value, int attribute, int device) {
  if (const Error error = check_device(device)) return error;
  switch (attribute) {
    case kAttributeComputeCapabilityMajor:
      *value = arch().major;
      return kSuccess;
    case kAttributeComputeCapabilityMinor:
      *value = arch().minor;
      return kSuccess;
    case kAttributeMultiprocessorCount:
      *value = arch().multiprocessors;
      return kSuccess;
    case kAttributeMaxSharedMemoryPerBlock:
      *value = static_cast<int>(arch().lds_bytes);
      return kSuccess;
    case kAttributeMaxThreadsPerBlock:
      *value = 1024;
      return kSuccess;
    case kAttributeWarpSize:
      *value = 64;
      return kSuccess;
    default:
      return fail(kErrorNotSupported, "device attribute " + std::to_string(attribute) + " is not known here");
  }
}

GFXSIM_HIP_API Error hipDeviceSynchronize() { return kSuccess; }

// ---- streams ----

GFXSIM_HIP_API Error hipStreamCreateWithFlags(Stream* stream, unsigned /*flags*/) {
  *stream = new char;
  return kSuccess;
}

GFXSIM_HIP_API Error hipStreamCreate(Stream* stream) { return hipStreamCreateWithFlags(stream, 0); }

GFXSIM_HIP_API Error hipStreamDestroy(Stream stream) {
  delete static_cast<char*>(stream);
  return kSuccess;
}

GFXSIM_HIP_API Error hipStreamSynchronize(Stream /*stream*/) { return kSuccess; }
GFXSIM_HIP_API Error hipStreamQuery(Stream /*stream*/) { return kSuccess; }

GFXSIM_HIP_API Error hipStreamIsCapturing(Stream /*stream*/, CaptureStatus* status) {
  *status = kCaptureStatusNone;
  return kSuccess;
}

GFXSIM_HIP_API Error hipStreamWaitEvent(Stream /*stream*/, void* /*event*/, unsigned /*flags*/) { return kSuccess; }

// ---- events ----

GFXSIM_HIP_API Error hipEventCreateWithFlags(void** event, unsigned /*flags*/) {
  *event = new Event{Clock::now()};
  return kSuccess;
}

GFXSIM_HIP_API Error hipEventCreate(void** event) { return hipEventCreateWithFlags(event, 0); }

GFXSIM_HIP_API Error hipEventDestroy(void* event) {
  delete static_cast<Event*>(event);
  return kSuccess;
}

GFXSIM_HIP_API Error hipEventRecord(void* event, Stream /*stream*/) {
  if (event == nullptr) return fail(kErrorInvalidHandle, "the event is null");
  static_cast<Event*>(event)->time = Clock::now();
  return kSuccess;
}

GFXSIM_HIP_API Error hipEventSynchronize(void* /*event*/) { return kSuccess; }
GFXSIM_HIP_API Error hipEventQuery(void* /*event*/) { return kSuccess; }

GFXSIM_HIP_API Error hipEventElapsedTime(float* milliseconds, void* start, void* stop) {
  if (start == nullptr || stop == nullptr) return fail(kErrorInvalidHandle, "an event is null");
  const auto elapsed = static_cast<Event*>(stop)->time - static_cast<Event*>(start)->time;
  *milliseconds = std::chrono::duration<float, std::milli>(elapsed).count();
  return kSuccess;
}
