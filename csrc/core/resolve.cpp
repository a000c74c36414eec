// From a config to a device, a backend, a workspace layout and the constant part of AttnParams.
#include "core/resolve.h"

#include <algorithm>
#include <cmath>

#include "core/status.h"

namespace portattn {
namespace {

// Kernels draw dropout from 16 bits: the largest probability that keeps anything.
constexpr double kMaxDropout = 65535.0 / 65536.0;

int32_t clamp_window(int64_t window) { return static_cast<int32_t>(std::min<int64_t>(window, kMaxWindow)); }

SeqSide side_of(bool is_thd, int64_t rows) {
  SeqSide side;
  side.is_thd = is_thd;
  side.seqlen = rows;
  return side;
}

void fill_visibility(const AttnConfig& config, AttnParams* p) {
  p->bottom_right = config.is_bottom_right();
  p->window_left = clamp_window(config.window_left);
  p->window_right = config.is_causal_mask() ? 0 : clamp_window(config.window_right);
  p->chunk = make_fast_divisor(static_cast<uint32_t>(clamp_window(config.chunk_size)));
}

void fill_scores(const AttnConfig& config, AttnParams* p) {
  const double scale = config.attn_scale != 0 ? config.attn_scale : 1 / std::sqrt(double(config.head_dim_qk));
  p->attn_scale = static_cast<float>(scale);
  p->softcap = static_cast<float>(config.softcap);
  p->bias_kind = static_cast<BiasKind>(config.bias_type);
  if (config.has_bias_tensor()) {
    p->bias_shape[0] = static_cast<int32_t>(config.bias_batch);
    p->bias_shape[1] = static_cast<int32_t>(config.bias_heads);
    p->bias_shape[2] = static_cast<int32_t>(config.bias_rows());
    p->bias_shape[3] = static_cast<int32_t>(config.bias_cols());
  }
  p->has_sink = config.softmax_type != NVTE_VANILLA_SOFTMAX;
  if (config.applies_dropout()) p->dropout = static_cast<float>(std::min(config.dropout, kMaxDropout));
}

}  // namespace

AttnParams params_of(const AttnConfig& config) {
  AttnParams p;
  p.batch = static_cast<int32_t>(config.batch_size);
  p.q_side = side_of(config.q_is_thd(), config.rows_q());
  p.kv_side = side_of(config.kv_is_thd(), config.rows_kv());
  p.num_heads_q = static_cast<int32_t>(config.num_heads_q);
  p.num_heads_kv = static_cast<int32_t>(config.num_heads_kv);
  p.head_dim_qk = static_cast<int32_t>(config.head_dim_qk);
  p.head_dim_v = static_cast<int32_t>(config.head_dim_v);
  fill_visibility(config, &p);
  fill_scores(config, &p);
  p.deterministic = config.deterministic != 0;
  p.max_segment_seqlen_q = static_cast<int32_t>(config.segment_bound_q());
  p.max_segment_seqlen_kv = static_cast<int32_t>(config.segment_bound_kv());
  return p;
}

NVTEStatus resolve_config(const AttnConfig& config, ResolvedConfig* resolved) {
  PA_RETURN_IF_ERROR(check_config(config));
  PA_RETURN_IF_ERROR(
      find_device(static_cast<NVTEDeviceType>(config.device_type), config.device_index, &resolved->device));
  PA_RETURN_IF_ERROR(choose_backend(config, resolved->device, &resolved->row));
  const BackendRow& row = *resolved->row;
  PA_RETURN_IF_ERROR(
      layout_workspace(config, NVTE_FORWARD, row.tiling(config, resolved->device, NVTE_FORWARD), &resolved->forward));
  PA_RETURN_IF_ERROR(layout_workspace(config, NVTE_BACKWARD, row.tiling(config, resolved->device, NVTE_BACKWARD),
                                      &resolved->backward));
  resolved->params = params_of(config);
  return NVTE_SUCCESS;
}

}  // namespace portattn
