// Row: very many very short sequences, whole rows in registers. Considered when the config promises short segments, or
// when it is asked for by name.
#include "core/backends/table.h"
#include "core/checked_math.h"

namespace portattn {
namespace {

bool is_short(int64_t promise) { return promise > 0 && promise <= kSmallSeqMaxSeqlen; }

bool enabled(const AttnConfig& config) {
  return is_short(config.max_segment_seqlen_q) || is_short(config.max_segment_seqlen_kv);
}

void refuse_head_dim(int64_t head_dim, const char* name, Refusal* refusal) {
  if (head_dim % 8 == 0 && (head_dim <= kSmallSeqMaxHeadDim || head_dim == kSmallSeqWideHeadDim)) return;
  refusal->because("%s is %lld (allowed: multiples of 8 up to %d, and %d)", name, static_cast<long long>(head_dim),
                   kSmallSeqMaxHeadDim, kSmallSeqWideHeadDim);
}

// Who asks for the row by name vouches for short segments; otherwise the config must promise them.
void refuse_length(const AttnConfig& config, bool is_thd, int64_t hint, int64_t bound, const char* side,
                   Refusal* refusal) {
  const bool is_vouched_for = config.backend == NVTE_Backend_Small_Seq && hint == 0;
  const bool is_unknown = is_thd && bound == 0;
  if (is_vouched_for || (!is_unknown && bound <= kSmallSeqMaxSeqlen)) return;
  if (is_unknown) {
    refusal->because("neither max_segment_seqlen_%s nor max_seqlen_%s is given (allowed: up to %d)", side, side,
                     kSmallSeqMaxSeqlen);
  } else {
    refusal->because("max_%s%s is %lld (allowed: up to %d)", hint > 0 ? "segment_seqlen_" : "seqlen_", side,
                     static_cast<long long>(bound), kSmallSeqMaxSeqlen);
  }
}

void refuse_scores(const AttnConfig& config, Refusal* refusal) {
  if (config.is_arbitrary_mask()) refusal->because("mask_type is arbitrary (allowed: every mask that is an interval)");
  if (config.bias_type != NVTE_NO_BIAS) {
    refusal->because("bias_type is %s (allowed: no_bias)", bias_name(config.bias_type));
  }
  if (config.softcap > 0) refusal->because("softcap is %g (allowed: 0)", config.softcap);
  if (config.softmax_type != NVTE_VANILLA_SOFTMAX) {
    refusal->because("softmax_type is %s (allowed: vanilla)", softmax_name(config.softmax_type));
  }
  if (config.applies_dropout()) refusal->because("dropout is %g (allowed: 0)", config.dropout);
}

void refuse(const AttnConfig& config, const Device&, Refusal* refusal) {
  if (config.dtype == kNVTEFloat64) refusal->because("dtype is fp64 (allowed: fp32, fp16, bf16)");
  refuse_head_dim(config.head_dim_qk, "head_dim_qk", refusal);
  refuse_head_dim(config.head_dim_v, "head_dim_v", refusal);
  refuse_length(config, config.q_is_thd(), config.max_segment_seqlen_q, config.segment_bound_q(), "q", refusal);
  refuse_length(config, config.kv_is_thd(), config.max_segment_seqlen_kv, config.segment_bound_kv(), "kv", refusal);
  refuse_scores(config, refusal);
  // Units of work are numbered with 31 bits; the rows before the first sequence take one a head.
  const CheckedSize units = CheckedSize(config.batch_size + 1) * config.num_heads_kv;
  if (!units.valid() || units.value() > INT32_MAX) {
    refusal->because("batch_size %lld with num_heads_kv %lld makes 2^31 units of work or more",
                     static_cast<long long>(config.batch_size), static_cast<long long>(config.num_heads_kv));
  }
}

Tiling tiling(const AttnConfig&, const Device&, NVTEDirection) {
  Tiling tiling;
  tiling.delta = false;
  return tiling;
}

int forward(const Launch& launch) {
  return launch.device.plugin->small_seq_fwd(launch.params, launch.dtype, launch.stream);
}

int backward(const Launch& launch) {
  return launch.device.plugin->small_seq_bwd(launch.params, launch.dtype, launch.stream);
}

}  // namespace

const BackendRow kSmallSeqRow = {NVTE_Backend_Small_Seq,
                                 "small_seq",
                                 "very many segments of a few tokens",
                                 16,
                                 "max_segment_seqlen_q or max_segment_seqlen_kv is 1 to 32",
                                 enabled,
                                 refuse,
                                 tiling,
                                 forward,
                                 backward};

}  // namespace portattn
