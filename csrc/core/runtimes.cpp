// Finds vendor runtimes and puts them into the global symbol scope.
#include "core/runtimes.h"

#include <dlfcn.h>
#include <link.h>

#include "core/env.h"

namespace portattn {
namespace {

constexpr const char* kSimulatorFile = "libgfx942_sim_hip.so";

// ROCm's runtime by what it is called in ROCm 7 and 6, both of which the library works with.
constexpr const char* kHipFiles[] = {"libamdhip64.so.7", "libamdhip64.so.6", "/opt/rocm/lib/libamdhip64.so"};

// The file that a symbol of the global scope comes from; "" when there is none.
std::string global_owner(const char* symbol) {
  void* address = dlsym(RTLD_DEFAULT, symbol);
  Dl_info info;
  if (address == nullptr || dladdr(address, &info) == 0 || info.dli_fname == nullptr) return "";
  return info.dli_fname;
}

bool names_file(const std::string& path, const std::string& file) { return path.find("/" + file) != std::string::npos; }

int keep_hip_path(dl_phdr_info* info, size_t /*size*/, void* path) {
  if (info->dlpi_name == nullptr || !names_file(info->dlpi_name, "libamdhip64.so")) return 0;
  *static_cast<std::string*>(path) = info->dlpi_name;
  return 1;
}

// The HIP runtime that something in the process, torch for example, has loaded for itself alone; "" when there is none.
std::string private_hip_path() {
  std::string path;
  dl_iterate_phdr(keep_hip_path, &path);
  return path;
}

Runtime provide_simulator(const std::string& directory) {
  const std::string owner = global_owner("hipLaunchKernel");
  if (names_file(owner, kSimulatorFile)) return {owner, ""};
  if (!owner.empty()) {
    return {"", "PORTATTN_HIP_SIM is 1, but this process already has a HIP runtime, " + owner +
                    ": simulate in a process without one"};
  }
  const std::string path = directory + kSimulatorFile;
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) return {path, ""};
  return {"", "PORTATTN_HIP_SIM is 1, but the simulator does not load: " + loader_error() +
                  "; build tools/gfx942_sim and put it beside this library"};
}

}  // namespace

std::string loader_error() {
  const char* text = dlerror();
  return text == nullptr ? "the loader gave no reason" : text;
}

Runtime provide_openmp() {
  const std::string owner = global_owner("GOMP_parallel");
  if (!owner.empty()) return {owner, ""};
  if (dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL) != nullptr) return {"libgomp.so.1", ""};
  return {"", "no OpenMP runtime: " + loader_error()};
}

Runtime provide_hip(const std::string& directory) {
  if (env().simulate_hip) return provide_simulator(directory);
  const std::string owner = global_owner("hipLaunchKernel");
  if (!owner.empty()) return {owner, ""};
  const std::string own = private_hip_path();
  if (!own.empty() && dlopen(own.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) return {own, ""};
  std::string failure = "no HIP runtime:";
  for (const char* file : kHipFiles) {
    if (dlopen(file, RTLD_NOW | RTLD_GLOBAL) != nullptr) return {file, ""};
    failure += " " + loader_error() + ";";
  }
  return {"", failure + " install ROCm 6.2 or later, or set PORTATTN_HIP_SIM=1 where the simulator is built"};
}

}  // namespace portattn
