// Device libraries: libportattn_{host_<isa>,cuda,hip}.so beside this one, loaded privately the first time a config
// names their device. One that is missing or does not load is a reason, kept for messages, never a crash.
#pragma once

#include <string>

#include "cuda/plugin.h"
#include "portattn/types.h"

namespace portattn {

// A device that kernels can run on.
struct Device {
  const Plugin* plugin = nullptr;
  NVTEDeviceType type = NVTE_DEVICE_HOST;
  int32_t index = 0;
  DeviceInfo info = {};
};

// NVTE_NOT_BUILT with the reason when there is no library for `type`, NVTE_INVALID_ARGUMENT for an index beyond the
// devices that its runtime finds.
NVTEStatus find_device(NVTEDeviceType type, int64_t index, Device* device);

// One line for each device library.
std::string describe_devices();

// Makes a device current on this thread while launches run, and restores the one before.
class DeviceScope {
 public:
  explicit DeviceScope(const Device& device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  int error() const { return error_; }

 private:
  const Device& device_;
  int32_t previous_;
  int error_;
};

}  // namespace portattn
