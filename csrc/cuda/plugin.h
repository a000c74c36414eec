// The one symbol that a device library exports, and the table behind it. csrc/core loads libportattn_{host,cuda,hip}.so
// privately and talks to the kernels through this table alone. Plain C++; both sides are always built together, and
// kPluginAbi says so.
#pragma once

#include <cstdint>

#include "attn/params.h"
#include "bwd_common/launch.h"
#include "fmha/launch.h"
#include "small_seq/launch.h"
#include "thd/cu_seqlens.h"
#include "thd/seq_plan.h"
#include "unfused/launch.h"

namespace portattn {

constexpr int32_t kPluginAbi = 8;

struct DeviceInfo {
  char name[64];  // "NVIDIA H200", "x86-64 avx512"
  int32_t arch;   // 900 for sm_90, 942 for gfx942, 0 for the host
  int32_t num_multiprocessors;
};

struct Plugin {
  int32_t abi;
  const char* target;        // "host", "cuda", "hip"
  const char* built_archs;   // "sm80 sm90", "avx512"
  int32_t (*num_devices)();  // 0 when the runtime finds none
  // All functions below return 0 or the vendor runtime's error code; error_text explains one.
  int (*device_info)(int32_t device, DeviceInfo* info);
  // Makes `device` current on the calling thread and returns the one that was; does nothing when they are equal.
  int (*set_device)(int32_t device, int32_t* previous);
  const char* (*error_text)(int code);
  // Copies from the device what the work before on `stream` leaves there, and waits for it. Does nothing, and says so
  // in `is_read`, while the stream is captured into a graph.
  int (*read_back)(void* host, const void* device, int64_t bytes, void* stream, bool* is_read);
  const FmhaInstance* (*find_fmha)(DType dtype, int32_t head_dim_qk, int32_t head_dim_v, int32_t device_arch);
  int (*cu_seqlens)(const CuSeqlensParams& params, void* stream);
  int (*seq_plan)(const SeqPlanParams& params, void* stream);
  int (*unfused_fwd)(const AttnParams& params, DType dtype, void* stream);
  int (*unfused_bwd)(const AttnParams& params, DType dtype, void* stream);
  int (*delta)(const AttnParams& params, DType dtype, void* stream);
  int (*convert_dq)(const AttnParams& params, DType dtype, void* stream);
  int (*bias_grad)(const AttnParams& params, DType dtype, void* stream);
  int (*sink_grad)(const AttnParams& params, void* stream);
  int (*small_seq_fwd)(const AttnParams& params, DType dtype, void* stream);
  int (*small_seq_bwd)(const AttnParams& params, DType dtype, void* stream);
};

}  // namespace portattn

extern "C" const portattn::Plugin* portattn_plugin();
