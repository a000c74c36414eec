// The function table of this device library: the only thing that it exports.
#include "plugin.h"

#include "device/runtime.cuh"

namespace {

using namespace portattn;

constexpr Plugin kPlugin = {
    kPluginAbi,         kTargetName,        kBuiltArchs,          runtime_num_devices,  runtime_device_info,
    runtime_set_device, runtime_error_text, runtime_read_back,    find_fmha_instance,   launch_cu_seqlens,
    launch_seq_plan,    launch_unfused_fwd, launch_unfused_bwd,   launch_delta,         launch_convert_dq,
    launch_bias_grad,   launch_sink_grad,   launch_small_seq_fwd, launch_small_seq_bwd,
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const portattn::Plugin* portattn_plugin() { return &kPlugin; }
