// Relations between the attributes of a config: what one value demands of the others.
#include "core/checked_math.h"
#include "core/config.h"
#include "core/status.h"

namespace portattn {
namespace {

NVTEStatus require(int64_t value, const char* name) {
  if (value != kUnset) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT, "%s is not set; it is required: set it before using the config", name);
}

NVTEStatus check_required(const AttnConfig& c) {
  PA_RETURN_IF_ERROR(require(c.dtype, "dtype"));
  PA_RETURN_IF_ERROR(require(c.batch_size, "batch_size"));
  PA_RETURN_IF_ERROR(require(c.num_heads_q, "num_heads_q"));
  PA_RETURN_IF_ERROR(require(c.num_heads_kv, "num_heads_kv"));
  PA_RETURN_IF_ERROR(require(c.head_dim_qk, "head_dim_qk"));
  PA_RETURN_IF_ERROR(require(c.head_dim_v, "head_dim_v"));
  PA_RETURN_IF_ERROR(require(c.max_seqlen_q, "max_seqlen_q (for thd a hint, 0 = unknown)"));
  PA_RETURN_IF_ERROR(require(c.max_seqlen_kv, "max_seqlen_kv (for thd a hint, 0 = unknown)"));
  if (c.q_is_thd()) PA_RETURN_IF_ERROR(require(c.total_tokens_q, "total_tokens_q (q_format is thd)"));
  if (c.kv_is_thd()) PA_RETURN_IF_ERROR(require(c.total_tokens_kv, "total_tokens_kv (kv_format is thd)"));
  return NVTE_SUCCESS;
}

NVTEStatus check_heads(const AttnConfig& c) {
  if (c.num_heads_q % c.num_heads_kv == 0) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT,
              "num_heads_q is %lld and num_heads_kv is %lld; num_heads_kv must divide num_heads_q: change one of them",
              static_cast<long long>(c.num_heads_q), static_cast<long long>(c.num_heads_kv));
}

NVTEStatus check_diagonal(const AttnConfig& c) {
  if (c.bottom_right_diagonal < 0 || !c.is_causal_mask()) return NVTE_SUCCESS;
  if ((c.bottom_right_diagonal == 1) == c.is_bottom_right_mask()) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT,
              "bottom_right_diagonal is %lld, but mask_type %s fixes the diagonal at the %s: leave it at -1, or choose "
              "the mask with the other diagonal",
              static_cast<long long>(c.bottom_right_diagonal), mask_name(c.mask_type),
              c.is_bottom_right_mask() ? "bottom right" : "top left");
}

NVTEStatus check_bias_extent(int64_t value, int64_t needed, bool may_broadcast, const char* name,
                             const char* max_name) {
  if (value >= needed || (may_broadcast && value == 1)) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT, "%s is %lld, but %s is %lld; allowed: %s%s or more", name,
              static_cast<long long>(value), max_name, static_cast<long long>(needed), may_broadcast ? "1, or " : "",
              max_name);
}

NVTEStatus check_bias(const AttnConfig& c) {
  if (!c.has_bias_tensor()) {
    if (c.bias_grad == 0) return NVTE_SUCCESS;
    return fail(NVTE_INVALID_ARGUMENT,
                "bias_grad is 1, but bias_type is not pre_scale_bias or post_scale_bias: there is no bias to have a "
                "gradient; set bias_grad to 0 or bias_type to one of these");
  }
  if (c.bias_batch != 1 && c.bias_batch != c.batch_size) {
    return fail(NVTE_INVALID_ARGUMENT, "bias_batch is %lld; allowed: 1, or batch_size, which is %lld",
                static_cast<long long>(c.bias_batch), static_cast<long long>(c.batch_size));
  }
  if (c.bias_heads != 1 && c.bias_heads != c.num_heads_q) {
    return fail(NVTE_INVALID_ARGUMENT, "bias_heads is %lld; allowed: 1, or num_heads_q, which is %lld",
                static_cast<long long>(c.bias_heads), static_cast<long long>(c.num_heads_q));
  }
  PA_RETURN_IF_ERROR(check_bias_extent(c.bias_rows(), c.max_seqlen_q, true, "bias_seqlen_q", "max_seqlen_q"));
  PA_RETURN_IF_ERROR(check_bias_extent(c.bias_cols(), c.max_seqlen_kv, false, "bias_seqlen_kv", "max_seqlen_kv"));
  if (c.q_is_thd() && c.max_seqlen_q == 0 && c.bias_seqlen_q == kUnset) {
    return require(kUnset, "bias_seqlen_q (q_format is thd and max_seqlen_q is unknown)");
  }
  if (c.kv_is_thd() && c.max_seqlen_kv == 0 && c.bias_seqlen_kv == kUnset) {
    return require(kUnset, "bias_seqlen_kv (kv_format is thd and max_seqlen_kv is unknown)");
  }
  return NVTE_SUCCESS;
}

NVTEStatus check_device(const AttnConfig& c) {
  if (c.device_type != NVTE_DEVICE_HOST || c.device_index == 0) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT, "device_index is %lld, but device_type is host: the host has only index 0",
              static_cast<long long>(c.device_index));
}

// Element counts of contiguous tensors fit 63 bits with room for the bytes of one element, so that later products of
// the same numbers cannot overflow.
NVTEStatus check_sizes(const AttnConfig& c) {
  const CheckedSize batch_q(c.q_is_thd() ? 1 : c.batch_size), batch_kv(c.kv_is_thd() ? 1 : c.batch_size);
  const CheckedSize q = batch_q * c.rows_q() * c.num_heads_q * c.head_dim_qk * 8;
  const CheckedSize o = batch_q * c.rows_q() * c.num_heads_q * c.head_dim_v * 8;
  const CheckedSize k = batch_kv * c.rows_kv() * c.num_heads_kv * c.head_dim_qk * 8;
  const CheckedSize v = batch_kv * c.rows_kv() * c.num_heads_kv * c.head_dim_v * 8;
  const CheckedSize bias = c.has_bias_tensor()
                               ? CheckedSize(c.bias_batch) * c.bias_heads * c.bias_rows() * c.bias_cols() * 8
                               : CheckedSize(0);
  if (q.valid() && o.valid() && k.valid() && v.valid() && bias.valid()) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT,
              "the size of a tensor overflows: %s; every tensor must have fewer than 2^60 elements: reduce a dimension",
              describe_config(c).c_str());
}

}  // namespace

NVTEStatus check_config(const AttnConfig& config) {
  PA_RETURN_IF_ERROR(check_required(config));
  PA_RETURN_IF_ERROR(check_heads(config));
  PA_RETURN_IF_ERROR(check_diagonal(config));
  PA_RETURN_IF_ERROR(check_bias(config));
  PA_RETURN_IF_ERROR(check_device(config));
  return check_sizes(config);
}

}  // namespace portattn
