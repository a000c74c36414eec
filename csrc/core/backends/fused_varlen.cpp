// Row: the fused kernels for sequences of any length.
#include "core/backends/table.h"
#include "core/checked_math.h"

namespace portattn {
namespace {

constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kHeadDimMultiple = 8;
constexpr int64_t kMaxHeads = 65535;  // the second dimension of a grid

bool enabled(const AttnConfig&) { return true; }

const FmhaInstance* find_instance(const AttnConfig& config, const Device& device) {
  return device.plugin->find_fmha(static_cast<DType>(config.dtype), static_cast<int32_t>(config.head_dim_qk),
                                  static_cast<int32_t>(config.head_dim_v), device.info.arch);
}

void refuse_head_dim(int64_t head_dim, const char* name, Refusal* refusal) {
  if (head_dim % kHeadDimMultiple == 0 && head_dim <= kMaxHeadDim) return;
  refusal->because("%s is %lld (allowed: multiples of 8 up to 256)", name, static_cast<long long>(head_dim));
}

// Blocks of a launch are numbered with 31 bits.
void refuse_tiles(int64_t batch, int64_t rows, int64_t tile_rows, const char* name, Refusal* refusal) {
  const CheckedSize tiles = CheckedSize((rows + tile_rows - 1) / tile_rows) * batch;
  if (tiles.valid() && tiles.value() <= INT32_MAX) return;
  refusal->because("batch_size %lld with %s %lld makes more than 2^31 tiles of %lld rows",
                   static_cast<long long>(batch), name, static_cast<long long>(rows),
                   static_cast<long long>(tile_rows));
}

// What the workspace has room for: the smallest tiles of all kernels that a call may choose.
Tiling finest_tiling(const FmhaInstance& instance, NVTEDirection direction, bool deterministic) {
  Tiling tiling;
  const auto take_finer = [](int32_t* rows, const FmhaKernel& kernel) {
    if (*rows == 0 || kernel.planned_rows < *rows) *rows = kernel.planned_rows;
  };
  tiling.work_counter = true;
  if (direction == NVTE_FORWARD) {
    for (int32_t i = 0; i < instance.num_forward; ++i) take_finer(&tiling.tile_rows_q, *instance.forward[i]);
    return tiling;
  }
  for (int32_t i = 0; i < instance.num_backward; ++i) {
    const FmhaBackward& kernels = instance.backward[i];
    take_finer(&tiling.tile_rows_kv, *kernels.main);
    if (!kernels.adds_dq(deterministic)) take_finer(&tiling.tile_rows_q, *kernels.dq);
    if (kernels.adds_dq(deterministic)) tiling.dq_accum = true;
    if (kernels.main->row_stats) tiling.row_stats = true;
  }
  tiling.dq_turns = tiling.dq_accum && deterministic;
  return tiling;
}

void refuse(const AttnConfig& config, const Device& device, Refusal* refusal) {
  if (config.dtype == kNVTEFloat64) refusal->because("dtype is fp64 (allowed: fp32, fp16, bf16)");
  refuse_head_dim(config.head_dim_qk, "head_dim_qk", refusal);
  refuse_head_dim(config.head_dim_v, "head_dim_v", refusal);
  if (config.is_arbitrary_mask()) refusal->because("mask_type is arbitrary (allowed: every mask that is an interval)");
  if (config.num_heads_q > kMaxHeads) {
    refusal->because("num_heads_q is %lld (allowed: up to 65535)", static_cast<long long>(config.num_heads_q));
  }
  if (refusal->refused()) return;
  const FmhaInstance* instance = find_instance(config, device);
  if (instance == nullptr) {
    refusal->because("not built: no kernel for dtype %s, head_dim_qk %lld and head_dim_v %lld on device arch %d",
                     dtype_name(config.dtype), static_cast<long long>(config.head_dim_qk),
                     static_cast<long long>(config.head_dim_v), device.info.arch);
    return;
  }
  if (!config.q_is_thd()) {
    const int64_t rows = finest_tiling(*instance, NVTE_FORWARD, config.deterministic != 0).tile_rows_q;
    refuse_tiles(config.batch_size, config.max_seqlen_q, rows, "max_seqlen_q", refusal);
  }
  if (!config.kv_is_thd()) {
    const int64_t rows = finest_tiling(*instance, NVTE_BACKWARD, config.deterministic != 0).tile_rows_kv;
    refuse_tiles(config.batch_size, config.max_seqlen_kv, rows, "max_seqlen_kv", refusal);
  }
}

Tiling tiling(const AttnConfig& config, const Device& device, NVTEDirection direction) {
  return finest_tiling(*find_instance(config, device), direction, config.deterministic != 0);
}

const FmhaInstance& instance_of(const Launch& launch) {
  return *launch.device.plugin->find_fmha(launch.dtype, launch.params.head_dim_qk, launch.params.head_dim_v,
                                          launch.device.info.arch);
}

KernelChoice choose(const Launch& launch, NVTEDirection direction) {
  const FmhaInstance& instance = instance_of(launch);
  if (direction == NVTE_FORWARD) {
    const FmhaKernel& kernel = forward_kernel(instance, launch.params);
    return KernelChoice{kernel.name, kernel.planned_rows, 0, false, false};
  }
  const FmhaBackward& kernels = backward_kernels(instance, launch.params);
  const bool adds_dq = kernels.adds_dq(launch.params.deterministic);
  return KernelChoice{kernels.main->name, adds_dq ? 0 : kernels.dq->planned_rows, kernels.main->planned_rows, adds_dq,
                      kernels.main->row_stats};
}

int forward(const Launch& launch) {
  return forward_kernel(instance_of(launch), launch.params).run(launch.params, launch.stream);
}

int backward(const Launch& launch) {
  const FmhaBackward& kernels = backward_kernels(instance_of(launch), launch.params);
  const int error = kernels.main->run(launch.params, launch.stream);
  if (error != 0) return error;
  if (launch.params.dq_accum.data == nullptr) return kernels.dq->run(launch.params, launch.stream);
  return launch.device.plugin->convert_dq(launch.params, launch.dtype, launch.stream);
}

}  // namespace

const BackendRow kFusedVarlenRow = {NVTE_Backend_Fused_Varlen,
                                    "fused_varlen",
                                    "fused kernels on matrix units, sequences of any length",
                                    16,
                                    "always",
                                    enabled,
                                    refuse,
                                    tiling,
                                    forward,
                                    backward,
                                    choose};

}  // namespace portattn
