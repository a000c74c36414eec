// Finds, loads and describes device libraries.
#include "core/plugin.h"

#include <dlfcn.h>
#include <unistd.h>

#include <vector>

#include "core/config.h"
#include "core/env.h"
#include "core/runtimes.h"
#include "core/status.h"
#include "core/text.h"

namespace portattn {
namespace {

struct KnownDevice {
  DeviceInfo info;
  int error;  // from asking for the info
};

struct DeviceLibrary {
  const Plugin* plugin = nullptr;
  std::vector<KnownDevice> devices;  // asked once: a runtime may take milliseconds to answer
  std::string file;
  std::string runtime;  // the vendor's runtime below it, where core provides one
  std::string failure;  // why it, or a better variant of it, was not loaded
};

// The directory of this very library, with a trailing slash; "" leaves the search to the loader.
std::string own_directory() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&own_directory), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

void load_into(const std::string& file, DeviceLibrary* library) {
  const std::string path = own_directory() + file;
  const std::string separator = library->failure.empty() ? "" : "; ";
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    library->failure += separator + loader_error();
    return;
  }
  const auto entry = reinterpret_cast<decltype(&portattn_plugin)>(dlsym(handle, "portattn_plugin"));
  if (entry == nullptr) {
    library->failure += separator + loader_error();
    return;
  }
  const Plugin* plugin = entry();
  if (plugin->abi != kPluginAbi) {
    library->failure += separator + format_text("%s has plugin ABI %d, this library needs %d: build both together",
                                                path.c_str(), plugin->abi, kPluginAbi);
    return;
  }
  library->plugin = plugin;
  library->file = file;
  const int32_t count = plugin->num_devices();
  for (int32_t index = 0; index < count; ++index) {
    KnownDevice device = {};
    device.error = plugin->device_info(index, &device.info);
    library->devices.push_back(device);
  }
}

// Variants of the host library that this CPU can run, best first.
std::vector<std::string> host_isas() {
  std::vector<std::string> isas;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512) isas.push_back("avx512");
  if (avx2) isas.push_back("avx2");
#endif
  isas.push_back("generic");
  return isas;
}

// The host library is compiled for OpenMP but not linked to a runtime: it joins the one of the process, torch's for
// example, so that there is one thread pool.
DeviceLibrary load_host() {
  DeviceLibrary library;
  library.failure = provide_openmp().failure;
  if (!library.failure.empty()) return library;
  const char* wanted = env().host_isa;
  for (const std::string& isa : host_isas()) {
    if (wanted == nullptr || isa == wanted) load_into("libportattn_host_" + isa + ".so", &library);
    if (library.plugin != nullptr) return library;
  }
  if (library.failure.empty()) {
    library.failure = format_text("PORTATTN_HOST_ISA is '%s'; this CPU runs:", wanted);
    for (const std::string& isa : host_isas()) library.failure += " " + isa;
  }
  return library;
}

DeviceLibrary load_cuda() {
  DeviceLibrary library;
  load_into("libportattn_cuda.so", &library);
  return library;
}

// The HIP library is not linked to a runtime either, so that one build serves ROCm 6 and 7, and the simulator. A
// runtime is loaded only where the library is: it may take a second, and hold a device.
DeviceLibrary load_hip() {
  const char* const kFile = "libportattn_hip.so";
  DeviceLibrary library;
  if (access((own_directory() + kFile).c_str(), R_OK) == 0) {
    const Runtime runtime = provide_hip(own_directory());
    library.runtime = runtime.name;
    library.failure = runtime.failure;
    if (!library.failure.empty()) return library;
  }
  load_into(kFile, &library);
  return library;
}

const DeviceLibrary& device_library(NVTEDeviceType type) {
  switch (type) {
    case NVTE_DEVICE_CUDA: {
      static const DeviceLibrary kCuda = load_cuda();
      return kCuda;
    }
    case NVTE_DEVICE_HIP: {
      static const DeviceLibrary kHip = load_hip();
      return kHip;
    }
    default: {
      static const DeviceLibrary kHost = load_host();
      return kHost;
    }
  }
}

std::string describe_device(const Plugin& plugin, const KnownDevice& device) {
  if (device.error != 0) return plugin.error_text(device.error);
  return format_text("%.64s (arch %d, %d multiprocessors)", device.info.name, device.info.arch,
                     device.info.num_multiprocessors);
}

std::string describe_library(NVTEDeviceType type) {
  const DeviceLibrary& library = device_library(type);
  std::string text = std::string(device_name(type)) + ": ";
  if (library.plugin == nullptr) return text + "not loaded: " + library.failure;
  text += format_text("%s, built for %s", library.file.c_str(), library.plugin->built_archs);
  if (!library.runtime.empty()) text += ", runtime " + library.runtime;
  if (library.devices.empty()) text += ", no device found by its runtime";
  for (size_t index = 0; index < library.devices.size(); ++index) {
    text += format_text(", device %zu: ", index) + describe_device(*library.plugin, library.devices[index]);
  }
  if (!library.failure.empty()) text += ", passed over: " + library.failure;
  return text;
}

}  // namespace

NVTEStatus find_device(NVTEDeviceType type, int64_t index, Device* device) {
  const DeviceLibrary& library = device_library(type);
  if (library.plugin == nullptr) {
    return fail(NVTE_NOT_BUILT, "no device library for %s: %s; install a build for this device or change device_type",
                device_name(type), library.failure.c_str());
  }
  if (index < 0 || index >= static_cast<int64_t>(library.devices.size())) {
    return fail(NVTE_INVALID_ARGUMENT,
                "device_index is %lld, but the %s runtime finds %zu device(s), counted from 0: use a smaller index",
                static_cast<long long>(index), device_name(type), library.devices.size());
  }
  const KnownDevice& known = library.devices[static_cast<size_t>(index)];
  if (known.error != 0) {
    return fail(NVTE_DEVICE_ERROR, "asking %s device %lld for its properties failed: %s", device_name(type),
                static_cast<long long>(index), library.plugin->error_text(known.error));
  }
  *device = Device{library.plugin, type, static_cast<int32_t>(index), known.info};
  return NVTE_SUCCESS;
}

std::string describe_devices() {
  std::string text;
  for (NVTEDeviceType type : {NVTE_DEVICE_HOST, NVTE_DEVICE_CUDA, NVTE_DEVICE_HIP}) {
    if (!text.empty()) text += '\n';
    text += describe_library(type);
  }
  return text;
}

DeviceScope::DeviceScope(const Device& device)
    : device_(device), previous_(device.index), error_(device.plugin->set_device(device.index, &previous_)) {}

DeviceScope::~DeviceScope() {
  int32_t ignored;
  if (error_ == 0 && previous_ != device_.index) device_.plugin->set_device(previous_, &ignored);
}

}  // namespace portattn
