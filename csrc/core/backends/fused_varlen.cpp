// Row: the fused kernels for sequences of any length.
#include <algorithm>

#include "core/backends/table.h"
#include "core/backends/tiles.h"

namespace portattn {
namespace {

constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kMaxWideHeadDim = 512;  // where there are kernels for it
constexpr int64_t kHeadDimMultiple = 8;
constexpr int64_t kMaxHeads = 65535;  // the second dimension of a grid

bool enabled(const AttnConfig&) { return true; }

const FmhaInstance* find_instance(const Device& device, int64_t dtype, int64_t head_dim_qk, int64_t head_dim_v) {
  return device.plugin->find_fmha(static_cast<DType>(dtype), static_cast<int32_t>(head_dim_qk),
                                  static_cast<int32_t>(head_dim_v), device.info.arch);
}
const FmhaInstance* find_instance(const AttnConfig& config, const Device& device) {
  return find_instance(device, config.dtype, config.head_dim_qk, config.head_dim_v);
}

void refuse_head_dim(int64_t head_dim, int64_t limit, const char* name, Refusal* refusal) {
  if (head_dim % kHeadDimMultiple == 0 && head_dim <= limit) return;
  refusal->because("%s is %lld (allowed: multiples of 8 up to %lld)", name, static_cast<long long>(head_dim),
                   static_cast<long long>(limit));
}

// Resident blocks number their work, a tile and a part of one head, with 30 bits.
void refuse_items(bool is_thd, int64_t batch, int64_t rows, int64_t heads, const char* side, Refusal* refusal) {
  constexpr int64_t kTileRows = 64, kParts = 2, kMostItems = INT32_MAX / 2;
  const CheckedSize tiles = count_tiles(is_thd, batch, rows, kTileRows);
  const CheckedSize items = tiles * heads * kParts;
  if (items.valid() && items.value() <= kMostItems) return;
  refusal->because("the %s make %lld tiles of 64 rows of %lld heads (allowed: a product below 2^29)", side,
                   static_cast<long long>(tiles.valid() ? tiles.value() : INT64_MAX), static_cast<long long>(heads));
}

// Blocks of a launch are numbered with 31 bits.
void refuse_tiles(int64_t batch, int64_t rows, int64_t tile_rows, const char* name, Refusal* refusal) {
  const CheckedSize tiles = count_tiles(false, batch, rows, tile_rows);
  if (tiles.valid() && tiles.value() <= INT32_MAX) return;
  refusal->because("batch_size %lld with %s %lld makes more than 2^31 tiles of %lld rows",
                   static_cast<long long>(batch), name, static_cast<long long>(rows),
                   static_cast<long long>(tile_rows));
}

// What the one kernel of a pass does not take, where there is only one.
void refuse_extras(const AttnConfig& config, Refusal* refusal) {
  const auto head_dim = static_cast<long long>(std::max(config.head_dim_qk, config.head_dim_v));
  if (config.bias_type != NVTE_NO_BIAS) {
    refusal->because("bias_type is %s at head dim %lld (allowed above 256: no_bias)", bias_name(config.bias_type),
                     head_dim);
  }
  if (config.softcap > 0) {
    refusal->because("softcap is %g at head dim %lld (allowed above 256: 0)", config.softcap, head_dim);
  }
  if (config.applies_dropout()) {
    refusal->because("dropout is %g at head dim %lld (allowed above 256: 0)", config.dropout, head_dim);
  }
  if (config.attn_scale < 0) {
    refusal->because("attn_scale is %g at head dim %lld (allowed above 256: positive)", config.attn_scale, head_dim);
  }
  if (config.deterministic != 0) {
    refusal->because("deterministic is 1 at head dim %lld (allowed above 256: 0)", head_dim);
  }
  refuse_items(config.q_is_thd(), config.batch_size, config.rows_q(), config.num_heads_q, "queries", refusal);
  refuse_items(config.kv_is_thd(), config.batch_size, config.rows_kv(), config.num_heads_kv, "keys", refusal);
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
    if (kernels.main->dq_use.takes_turns) tiling.dq_turns = true;
    if (kernels.main->row_stats) tiling.row_stats = true;
  }
  return tiling;
}

void refuse(const AttnConfig& config, const Device& device, Refusal* refusal) {
  if (config.dtype == kNVTEFloat64) refusal->because("dtype is fp64 (allowed: fp32, fp16, bf16)");
  const bool has_wide = find_instance(device, config.dtype, kMaxWideHeadDim, kMaxWideHeadDim) != nullptr;
  const int64_t limit = has_wide ? kMaxWideHeadDim : kMaxHeadDim;
  refuse_head_dim(config.head_dim_qk, limit, "head_dim_qk", refusal);
  refuse_head_dim(config.head_dim_v, limit, "head_dim_v", refusal);
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
  if (!takes_every_call(*instance)) refuse_extras(config, refusal);
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
    return KernelChoice{kernel.name, kernel.planned_rows, 0};
  }
  const FmhaBackward& kernels = backward_kernels(instance, launch.params);
  const bool adds_dq = kernels.adds_dq(launch.params.deterministic);
  const FmhaKernel& main = *kernels.main;
  KernelChoice choice{main.name, adds_dq ? 0 : kernels.dq->planned_rows, main.planned_rows, adds_dq};
  if (adds_dq) choice.dq_use = main.dq_use;
  choice.row_stats = main.row_stats;
  return choice;
}

int forward(const Launch& launch) {
  return forward_kernel(instance_of(launch), launch.params).run(launch.params, launch.stream);
}

int backward(const Launch& launch) {
  const FmhaBackward& kernels = backward_kernels(instance_of(launch), launch.params);
  const int error = kernels.main->run(launch.params, launch.stream);
  if (error != 0 || launch.params.dq_accum.use.writes_dq) return error;
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
