// Kernel launches: checks what the hardware would refuse, packs the arguments, runs the simulator to the end.
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "gfx942_sim_hip.h"
#include "hip_runtime/device.h"
#include "hip_runtime/error.h"
#include "hip_runtime/registry.h"

namespace gfxsim::hip {
namespace {

struct LaunchState {
  std::mutex mutex;
  gfxsim_options options = gfxsim_default_options();
  gfxsim_report sum = {};
  uint64_t launches = 0;
};

LaunchState& state() {
  static LaunchState instance;
  return instance;
}

struct Configuration {
  Dim3 grid, block;
  size_t lds_bytes;
  Stream stream;
};

thread_local std::vector<Configuration> pushed_configurations;  // of kernel<<<...>>> between its two halves

std::string text(const Dim3& d) {
  return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
}

Error check_lds(const gfxsim_kernel_info& kernel, size_t dynamic_bytes) {
  if (dynamic_bytes + kernel.static_lds_bytes <= device_lds_bytes()) return kSuccess;
  return fail(kErrorInvalidValue, std::to_string(dynamic_bytes) + " bytes of dynamic LDS and " +
                                      std::to_string(kernel.static_lds_bytes) + " static ones for " + kernel.name +
                                      "; a block of " + device_arch() + " has " + std::to_string(device_lds_bytes()));
}

Error check_shape(const gfxsim_kernel_info& kernel, const Dim3& grid, const Dim3& block) {
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0) {
    return fail(kErrorInvalidConfiguration, "an empty grid, " + text(grid) + ", or block, " + text(block));
  }
  if (threads > kernel.max_threads) {
    return fail(kErrorInvalidConfiguration, "a block of " + text(block) + " threads; " + kernel.name + " allows " +
                                                std::to_string(kernel.max_threads));
  }
  // The hardware counts threads, not blocks, in 32 bits.
  const uint64_t most = UINT32_MAX;
  if (uint64_t(grid.x) * block.x > most || uint64_t(grid.y) * block.y > most || uint64_t(grid.z) * block.z > most) {
    return fail(kErrorInvalidConfiguration, "a grid of " + text(grid) + " blocks of " + text(block) +
                                                " threads: a dimension has over 2^32 threads");
  }
  return kSuccess;
}

std::vector<char> pack_arguments(const gfxsim_kernel_info& kernel, void** arguments) {
  std::vector<char> packed(kernel.explicit_kernarg_bytes);
  for (uint32_t i = 0; i < kernel.argument_count; ++i) {
    const gfxsim_argument& argument = kernel.arguments[i];
    if (std::strncmp(argument.kind, "hidden_", 7) == 0) continue;
    std::memcpy(packed.data() + argument.offset, *arguments++, argument.size);
  }
  return packed;
}

void add(const gfxsim_report& report, LaunchState* to) {
  const std::lock_guard<std::mutex> lock(to->mutex);
  ++to->launches;
  to->sum.blocks += report.blocks;
  to->sum.waves += report.waves;
  to->sum.instructions += report.instructions;
  to->sum.mfma_flops += report.mfma_flops;
  to->sum.seconds += report.seconds;
  for (int i = 0; i < GFXSIM_CLASS_COUNT; ++i) to->sum.instructions_of_class[i] += report.instructions_of_class[i];
}

gfxsim_options current_options() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().options;
}

}  // namespace
}  // namespace gfxsim::hip

using namespace gfxsim::hip;

GFXSIM_HIP_API void gfxsim_hip_set_options(const gfxsim_options* options) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().options = options == nullptr ? gfxsim_default_options() : *options;
}

GFXSIM_HIP_API uint64_t gfxsim_hip_take_report(gfxsim_report* sum) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  const uint64_t launches = state().launches;
  *sum = state().sum;
  state().sum = {};
  state().launches = 0;
  return launches;
}

GFXSIM_HIP_API Error hipLaunchKernel(const void* function, Dim3 grid, Dim3 block, void** arguments, size_t lds_bytes,
                                     Stream /*stream*/) {
  const gfxsim_kernel* kernel;
  if (const Error error = find_kernel(function, &kernel)) return error;
  const gfxsim_kernel_info& info = *gfxsim_kernel_get_info(kernel);
  if (const Error error = check_shape(info, grid, block)) return error;
  if (const Error error = check_lds(info, lds_bytes)) return error;
  const std::vector<char> packed = pack_arguments(info, arguments);
  const uint32_t blocks[3] = {grid.x, grid.y, grid.z}, threads[3] = {block.x, block.y, block.z};
  const gfxsim_options options = current_options();
  gfxsim_report report = {};
  const gfxsim_status status = gfxsim_launch(kernel, blocks, threads, static_cast<uint32_t>(lds_bytes), packed.data(),
                                             packed.size(), &options, &report);
  if (status != GFXSIM_OK) return fail(kErrorLaunchFailure, gfxsim_last_error());
  add(report, &state());
  return kSuccess;
}

GFXSIM_HIP_API Error __hipPushCallConfiguration(Dim3 grid, Dim3 block, size_t lds_bytes, Stream stream) {
  pushed_configurations.push_back({grid, block, lds_bytes, stream});
  return kSuccess;
}

GFXSIM_HIP_API Error __hipPopCallConfiguration(Dim3* grid, Dim3* block, size_t* lds_bytes, Stream* stream) {
  if (pushed_configurations.empty()) return fail(kErrorInvalidConfiguration, "no launch configuration was given");
  const Configuration& last = pushed_configurations.back();
  *grid = last.grid;
  *block = last.block;
  *lds_bytes = last.lds_bytes;
  *stream = last.stream;
  pushed_configurations.pop_back();
  return kSuccess;
}

// More dynamic LDS than the default needs no permission here; more than there is is refused, as at the launch.
GFXSIM_HIP_API Error hipFuncSetAttribute(const void* function, int attribute, int value) {
  const gfxsim_kernel* kernel;
  if (const Error error = find_kernel(function, &kernel)) return error;
  if (attribute != kFunctionAttributeMaxDynamicLds) return kSuccess;
  return check_lds(*gfxsim_kernel_get_info(kernel), static_cast<uint32_t>(value));
}
