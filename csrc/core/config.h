// NVTEFusedAttnConfig: the attributes of a problem, by name, and what follows from them alone.
//
// Every attribute is an int64_t or a double, checked against its own range when it is set (config.cpp holds the table)
// and against the others when the config is used (config_check.cpp).
#pragma once

#include <cstdint>
#include <string>

#include "portattn/config.h"

namespace portattn {

constexpr int64_t kUnset =
    INT64_MIN;  // a required attribute that has not been set, or a default that depends on others

struct AttnConfig {
  int64_t dtype = kUnset;
  int64_t q_format = NVTE_BSHD;
  int64_t kv_format = NVTE_BSHD;
  int64_t batch_size = kUnset;
  int64_t num_heads_q = kUnset;
  int64_t num_heads_kv = kUnset;
  int64_t head_dim_qk = kUnset;
  int64_t head_dim_v = kUnset;
  int64_t max_seqlen_q = kUnset;
  int64_t max_seqlen_kv = kUnset;
  int64_t total_tokens_q = kUnset;
  int64_t total_tokens_kv = kUnset;
  int64_t mask_type = NVTE_NO_MASK;
  int64_t window_left = -1;
  int64_t window_right = -1;
  int64_t bottom_right_diagonal = -1;
  int64_t chunk_size = 0;
  double attn_scale = 0;
  double softcap = 0;
  double dropout = 0;
  int64_t bias_type = NVTE_NO_BIAS;
  int64_t bias_batch = 1;
  int64_t bias_heads = 1;
  int64_t bias_seqlen_q = kUnset;
  int64_t bias_seqlen_kv = kUnset;
  int64_t bias_grad = 0;
  int64_t softmax_type = NVTE_VANILLA_SOFTMAX;
  int64_t allow_tf32 = 0;
  int64_t is_training = 0;
  int64_t deterministic = 0;
  int64_t backend = NVTE_No_Backend;
  int64_t strict = 0;
  int64_t device_type = NVTE_DEVICE_HOST;
  int64_t device_index = 0;
  int64_t max_segment_seqlen_q = 0;
  int64_t max_segment_seqlen_kv = 0;

  bool q_is_thd() const { return q_format == NVTE_THD; }
  bool kv_is_thd() const { return kv_format == NVTE_THD; }
  // Rows of one sequence in the buffer: s, or all tokens t for thd.
  int64_t rows_q() const { return q_is_thd() ? total_tokens_q : max_seqlen_q; }
  int64_t rows_kv() const { return kv_is_thd() ? total_tokens_kv : max_seqlen_kv; }

  bool is_padding_mask() const {
    return mask_type == NVTE_PADDING_MASK || mask_type == NVTE_PADDING_CAUSAL_MASK ||
           mask_type == NVTE_PADDING_CAUSAL_BOTTOM_RIGHT_MASK;
  }
  bool is_bottom_right_mask() const {
    return mask_type == NVTE_CAUSAL_BOTTOM_RIGHT_MASK || mask_type == NVTE_PADDING_CAUSAL_BOTTOM_RIGHT_MASK;
  }
  bool is_causal_mask() const {
    return mask_type == NVTE_CAUSAL_MASK || mask_type == NVTE_PADDING_CAUSAL_MASK || is_bottom_right_mask();
  }
  bool is_arbitrary_mask() const { return mask_type == NVTE_ARBITRARY_MASK; }
  // Alignment of the diagonal: the mask's own where it has one, otherwise as BOTTOM_RIGHT_DIAGONAL says.
  bool is_bottom_right() const { return is_causal_mask() ? is_bottom_right_mask() : bottom_right_diagonal == 1; }

  bool needs_cu_seqlens_q() const { return q_is_thd() || is_padding_mask(); }
  bool needs_cu_seqlens_kv() const { return kv_is_thd() || is_padding_mask(); }

  bool has_bias_tensor() const { return bias_type == NVTE_PRE_SCALE_BIAS || bias_type == NVTE_POST_SCALE_BIAS; }
  int64_t bias_rows() const { return bias_seqlen_q == kUnset ? max_seqlen_q : bias_seqlen_q; }
  int64_t bias_cols() const { return bias_seqlen_kv == kUnset ? max_seqlen_kv : bias_seqlen_kv; }
  bool applies_dropout() const { return is_training != 0 && dropout > 0; }
  // Most tokens of a segment, as far as anything promises: the hint, or else max_seqlen. 0 = unknown (thd).
  int64_t segment_bound_q() const { return max_segment_seqlen_q > 0 ? max_segment_seqlen_q : max_seqlen_q; }
  int64_t segment_bound_kv() const { return max_segment_seqlen_kv > 0 ? max_segment_seqlen_kv : max_seqlen_kv; }
};

NVTEStatus set_int(AttnConfig* config, NVTEFusedAttnAttr attr, int64_t value);
NVTEStatus set_float(AttnConfig* config, NVTEFusedAttnAttr attr, double value);
NVTEStatus get_int(const AttnConfig& config, NVTEFusedAttnAttr attr, int64_t* value);
NVTEStatus get_float(const AttnConfig& config, NVTEFusedAttnAttr attr, double* value);

// Every attribute that differs from its default, "dtype=bf16 batch_size=2 ...": enough to build the config again.
std::string describe_config(const AttnConfig& config);

// Relations between attributes; what each means for a tensor or a backend is not looked at here.
NVTEStatus check_config(const AttnConfig& config);

// Names as they appear in messages and in the support matrix.
const char* dtype_name(int64_t dtype);
const char* format_name(int64_t format);
const char* mask_name(int64_t mask_type);
const char* bias_name(int64_t bias_type);
const char* softmax_name(int64_t softmax_type);
const char* device_name(int64_t device_type);

}  // namespace portattn
