// The registration functions that clang's HIP start-up code calls, and look-ups in what they have told.
#include "hip_runtime/registry.h"

#include <list>
#include <map>
#include <mutex>
#include <string>

#include "hip_runtime/device.h"
#include "hip_runtime/error.h"
#include "hip_runtime/fat_binary.h"

namespace gfxsim::hip {
namespace {

struct Module {
  const void* bundle = nullptr;
  gfxsim_object* object = nullptr;  // null until first used
};

struct Symbol {
  Module* module;
  std::string name;
};

struct Registry {
  std::mutex mutex;
  std::list<Module> modules;  // a list: their addresses are handles
  std::map<const void*, Symbol> kernels;
  std::map<const void*, Symbol> variables;
};

// Never destroyed: libraries unregister when the process ends, in any order.
Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

Error load(Module* module) {
  if (module->object != nullptr) return kSuccess;
  std::string why;
  const CodeObject code = find_code_object(module->bundle, device_arch(), &why);
  if (code.data == nullptr) return fail(kErrorNoBinaryForGpu, why);
  if (gfxsim_object_load(code.data, code.size, &module->object) == GFXSIM_OK) return kSuccess;
  module->object = nullptr;
  return fail(kErrorInvalidImage, gfxsim_last_error());
}

template <class Symbols>
void forget(Symbols* symbols, const Module* module) {
  for (auto it = symbols->begin(); it != symbols->end();) {
    it = it->second.module == module ? symbols->erase(it) : std::next(it);
  }
}

}  // namespace

Error find_kernel(const void* host_function, const gfxsim_kernel** kernel) {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.kernels.find(host_function);
  if (found == all.kernels.end()) return fail(kErrorInvalidDeviceFunction, "no kernel was registered at this address");
  const Symbol& symbol = found->second;
  if (const Error error = load(symbol.module)) return error;
  if (gfxsim_object_kernel(symbol.module->object, symbol.name.c_str(), kernel) == GFXSIM_OK) return kSuccess;
  return fail(kErrorInvalidDeviceFunction, gfxsim_last_error());
}

Error find_variable(const void* host_variable, void** address, size_t* size) {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.variables.find(host_variable);
  if (found == all.variables.end()) return fail(kErrorInvalidSymbol, "no variable was registered at this address");
  const Symbol& symbol = found->second;
  if (const Error error = load(symbol.module)) return error;
  if (gfxsim_object_symbol(symbol.module->object, symbol.name.c_str(), address, size) == GFXSIM_OK) return kSuccess;
  return fail(kErrorInvalidSymbol, gfxsim_last_error());
}

}  // namespace gfxsim::hip

using namespace gfxsim::hip;

GFXSIM_HIP_API void** __hipRegisterFatBinary(const FatBinaryWrapper* wrapper) {
  if (wrapper == nullptr || wrapper->magic != kFatBinaryMagic) return nullptr;
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.modules.push_back({wrapper->binary, nullptr});
  return reinterpret_cast<void**>(&all.modules.back());
}

GFXSIM_HIP_API void __hipRegisterFunction(void** module, const void* host_function, char* /*device_function*/,
                                          const char* device_name, unsigned /*thread_limit*/, void* /*thread*/,
                                          void* /*block*/, Dim3* /*block_dim*/, Dim3* /*grid_dim*/, int* /*wave*/) {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.kernels[host_function] = {reinterpret_cast<Module*>(module), device_name};
}

GFXSIM_HIP_API void __hipRegisterVar(void** module, const void* host_variable, char* /*host_name*/,
                                     const char* device_name, int /*is_extern*/, size_t /*size*/, int /*is_constant*/,
                                     int /*is_global*/) {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.variables[host_variable] = {reinterpret_cast<Module*>(module), device_name};
}

GFXSIM_HIP_API void __hipUnregisterFatBinary(void** module) {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const Module* gone = reinterpret_cast<Module*>(module);
  forget(&all.kernels, gone);
  forget(&all.variables, gone);
  all.modules.remove_if([gone](Module& each) {
    if (&each != gone) return false;
    gfxsim_object_free(each.object);
    return true;
  });
}
