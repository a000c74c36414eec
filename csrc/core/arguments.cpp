// Which tensors a config asks for, what each must be, and where it goes in AttnParams.
#include "core/arguments.h"

#include "core/status.h"
#include "core/tensor.h"

namespace portattn {
namespace {

template <class Struct>
NVTEStatus check_struct(const Struct* arguments, const char* name) {
  if (arguments == nullptr) return fail(NVTE_INVALID_ARGUMENT, "%s is NULL: pass the struct of tensors", name);
  if (reinterpret_cast<uintptr_t>(arguments) % alignof(Struct) != 0) {
    return fail(NVTE_INVALID_ARGUMENT, "%s points to %p, which is not aligned for its struct: pass one that is", name,
                static_cast<const void*>(arguments));
  }
  if (arguments->struct_size == sizeof(Struct)) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT, "%s has struct_size %zu; allowed: %zu: set it to the size of the struct", name,
              arguments->struct_size, sizeof(Struct));
}

// Reads the tensors of one call: a method for each kind of tensor.
class Reader {
 public:
  Reader(const AttnConfig& config, const ResolvedConfig& resolved) : config_(config), resolved_(resolved) {}

  NVTEStatus q_like(const NVTETensor* tensor, const char* name, bool is_output, TensorView* view) const {
    return token_tensor(tensor, name, is_output, config_.q_format, config_.rows_q(), config_.num_heads_q,
                        config_.head_dim_qk, view);
  }
  NVTEStatus o_like(const NVTETensor* tensor, const char* name, bool is_output, TensorView* view) const {
    return token_tensor(tensor, name, is_output, config_.q_format, config_.rows_q(), config_.num_heads_q,
                        config_.head_dim_v, view);
  }
  NVTEStatus k_like(const NVTETensor* tensor, const char* name, bool is_output, TensorView* view) const {
    return token_tensor(tensor, name, is_output, config_.kv_format, config_.rows_kv(), config_.num_heads_kv,
                        config_.head_dim_qk, view);
  }
  NVTEStatus v_like(const NVTETensor* tensor, const char* name, bool is_output, TensorView* view) const {
    return token_tensor(tensor, name, is_output, config_.kv_format, config_.rows_kv(), config_.num_heads_kv,
                        config_.head_dim_v, view);
  }

  // lse: q's shape without the head dim, float32.
  NVTEStatus lse(const NVTETensor* tensor, bool is_output, TensorView* view) const {
    const Format& format = format_of(config_.q_format);
    TensorRule rule = token_rule("lse", format, config_.rows_q(), config_.num_heads_q);
    rule.dtype = kNVTEFloat32;
    rule.is_output = is_output;
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, resolved_.device));
    *view = token_view(*tensor, format);
    return NVTE_SUCCESS;
  }

  NVTEStatus bias(const NVTETensor* tensor, const char* name, bool is_output, ScoreView* view) const {
    TensorRule rule = {name, "bhij", int32_t(config_.dtype), 4, {}, is_output, false, 0};
    rule.shape[0] = config_.bias_batch;
    rule.shape[1] = config_.bias_heads;
    rule.shape[2] = config_.bias_rows();
    rule.shape[3] = config_.bias_cols();
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, resolved_.device));
    *view = score_view(*tensor);
    return NVTE_SUCCESS;
  }

  // Each dimension is the full one or 1.
  NVTEStatus mask(const NVTETensor* tensor, ScoreView* view) const {
    TensorRule rule = {"attention_mask", "bhij", kNVTEByte, 4, {}, false, false, 0};
    const int64_t full[4] = {config_.batch_size, config_.num_heads_q, config_.rows_q(), config_.rows_kv()};
    PA_RETURN_IF_ERROR(check_tensor_struct(tensor, rule.name));
    for (int i = 0; i < 4; ++i) rule.shape[i] = tensor->shape[i] == 1 ? 1 : full[i];
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, resolved_.device));
    *view = score_view(*tensor);
    return NVTE_SUCCESS;
  }

  // One float for each query head.
  NVTEStatus per_head(const NVTETensor* tensor, const char* name, bool is_output, float** data) const {
    const TensorRule rule = {name, "h", kNVTEFloat32, 1, {config_.num_heads_q}, is_output, true, 0};
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, resolved_.device));
    *data = static_cast<float*>(tensor->data);
    return NVTE_SUCCESS;
  }

  // One float for each query head, or for each batch entry and query head.
  NVTEStatus slopes(const NVTETensor* tensor, const float** data, int64_t* batch_stride) const {
    PA_RETURN_IF_ERROR(check_tensor_struct(tensor, "alibi_slopes"));
    TensorRule rule = {"alibi_slopes", "h", kNVTEFloat32, 1, {config_.num_heads_q}, false, true, 0};
    if (tensor->ndim == 2) {
      rule.dims = "bh";
      rule.ndim = 2;
      rule.shape[0] = config_.batch_size;
      rule.shape[1] = config_.num_heads_q;
    }
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, resolved_.device));
    *data = static_cast<const float*>(tensor->data);
    *batch_stride = rule.ndim == 2 && rule.shape[0] > 1 ? tensor->strides[0] : 0;
    return NVTE_SUCCESS;
  }

  // batch_size + 1 entries or more.
  NVTEStatus cu_seqlens(const NVTETensor* tensor, const char* name, const int32_t** data) const {
    PA_RETURN_IF_ERROR(check_tensor_struct(tensor, name));
    if (tensor->ndim == 1 && tensor->shape[0] <= config_.batch_size) {
      return fail(NVTE_INVALID_ARGUMENT, "%s has %lld entries; allowed: batch_size + 1 = %lld or more", name,
                  static_cast<long long>(tensor->shape[0]), static_cast<long long>(config_.batch_size + 1));
    }
    const TensorRule rule = {name, "n", kNVTEInt32, 1, {tensor->shape[0]}, false, true, 0};
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, resolved_.device));
    *data = static_cast<const int32_t*>(tensor->data);
    return NVTE_SUCCESS;
  }

  NVTEStatus rng_state(const NVTETensor* tensor, const uint64_t** data) const {
    const TensorRule rule = {"rng_state", "n", kNVTEInt64, 1, {2}, false, true, 0};
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, resolved_.device));
    *data = static_cast<const uint64_t*>(tensor->data);
    return NVTE_SUCCESS;
  }

 private:
  TensorRule token_rule(const char* name, const Format& format, int64_t rows, int64_t heads) const {
    TensorRule rule = {name, format.dims, 0, 0, {}, false, false, 0};
    rule.ndim = format.batch < 0 ? 2 : 3;
    if (format.batch >= 0) rule.shape[format.batch] = config_.batch_size;
    rule.shape[format.token] = rows;
    rule.shape[format.head] = heads;
    return rule;
  }

  NVTEStatus token_tensor(const NVTETensor* tensor, const char* name, bool is_output, int64_t format_id, int64_t rows,
                          int64_t heads, int64_t head_dim, TensorView* view) const {
    const Format& format = format_of(format_id);
    TensorRule rule = token_rule(name, format, rows, heads);
    rule.dtype = static_cast<int32_t>(config_.dtype);
    rule.shape[rule.ndim++] = head_dim;
    rule.is_output = is_output;
    rule.unit_last_stride = true;
    rule.alignment_bytes = resolved_.row->alignment_bytes;
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, resolved_.device));
    *view = token_view(*tensor, format);
    return NVTE_SUCCESS;
  }

  const AttnConfig& config_;
  const ResolvedConfig& resolved_;
};

NVTEStatus read_score_inputs(const AttnConfig& config, const Reader& reader, const NVTEFusedAttnInputs& in,
                             AttnParams* p) {
  if (config.has_bias_tensor()) {
    PA_RETURN_IF_ERROR(reader.bias(in.bias, "bias", false, &p->bias));
  } else {
    PA_RETURN_IF_ERROR(check_absent(in.bias, "bias", "bias_type to pre_scale_bias or post_scale_bias"));
  }
  if (config.softmax_type == NVTE_LEARNABLE_SOFTMAX) {
    float* offset;
    PA_RETURN_IF_ERROR(reader.per_head(in.softmax_offset, "softmax_offset", false, &offset));
    p->softmax_offset = offset;
  } else {
    PA_RETURN_IF_ERROR(check_absent(in.softmax_offset, "softmax_offset", "softmax_type to learnable"));
  }
  if (config.bias_type == NVTE_ALIBI) {
    PA_RETURN_IF_ERROR(reader.slopes(in.alibi_slopes, &p->alibi_slopes, &p->alibi_batch_stride));
  } else {
    PA_RETURN_IF_ERROR(check_absent(in.alibi_slopes, "alibi_slopes", "bias_type to alibi"));
  }
  if (config.is_arbitrary_mask()) return reader.mask(in.attention_mask, &p->mask);
  return check_absent(in.attention_mask, "attention_mask", "mask_type to arbitrary");
}

NVTEStatus read_side(bool is_thd, bool is_needed, const Reader& reader, const NVTETensor* lengths, const char* name,
                     const NVTETensor* starts, const char* starts_name, const int32_t** cu_seqlens,
                     const int32_t** cu_seqlens_padded) {
  if (is_needed) {
    PA_RETURN_IF_ERROR(reader.cu_seqlens(lengths, name, cu_seqlens));
  } else {
    PA_RETURN_IF_ERROR(check_absent(lengths, name, "mask_type to a padding mask or the format to thd"));
  }
  if (!is_thd) return check_absent(starts, starts_name, "the format to thd");
  return starts == nullptr ? NVTE_SUCCESS : reader.cu_seqlens(starts, starts_name, cu_seqlens_padded);
}

NVTEStatus read_seqlens(const AttnConfig& config, const Reader& reader, const NVTEFusedAttnInputs& in, AttnParams* p,
                        SeqlenArguments* seqlens) {
  PA_RETURN_IF_ERROR(read_side(config.q_is_thd(), config.needs_cu_seqlens_q(), reader, in.cu_seqlens_q, "cu_seqlens_q",
                               in.cu_seqlens_q_padded, "cu_seqlens_q_padded", &seqlens->cu_seqlens_q,
                               &seqlens->cu_seqlens_q_padded));
  PA_RETURN_IF_ERROR(read_side(config.kv_is_thd(), config.needs_cu_seqlens_kv(), reader, in.cu_seqlens_kv,
                               "cu_seqlens_kv", in.cu_seqlens_kv_padded, "cu_seqlens_kv_padded",
                               &seqlens->cu_seqlens_kv, &seqlens->cu_seqlens_kv_padded));
  if (!config.q_is_thd()) p->q_side.cu_seqlens = seqlens->cu_seqlens_q;
  if (!config.kv_is_thd()) p->kv_side.cu_seqlens = seqlens->cu_seqlens_kv;
  return NVTE_SUCCESS;
}

}  // namespace

NVTEStatus read_inputs(const AttnConfig& config, const ResolvedConfig& resolved, const NVTEFusedAttnInputs* inputs,
                       AttnParams* params, SeqlenArguments* seqlens) {
  PA_RETURN_IF_ERROR(check_struct(inputs, "inputs"));
  const Reader reader(config, resolved);
  PA_RETURN_IF_ERROR(reader.q_like(inputs->q, "q", false, &params->q));
  PA_RETURN_IF_ERROR(reader.k_like(inputs->k, "k", false, &params->k));
  PA_RETURN_IF_ERROR(reader.v_like(inputs->v, "v", false, &params->v));
  PA_RETURN_IF_ERROR(read_score_inputs(config, reader, *inputs, params));
  PA_RETURN_IF_ERROR(read_seqlens(config, reader, *inputs, params, seqlens));
  if (config.applies_dropout()) return reader.rng_state(inputs->rng_state, &params->rng_state);
  return check_absent(inputs->rng_state, "rng_state", "dropout above 0 and is_training to 1");
}

NVTEStatus read_outputs(const AttnConfig& config, const ResolvedConfig& resolved, const NVTEFusedAttnOutputs* outputs,
                        AttnParams* params) {
  PA_RETURN_IF_ERROR(check_struct(outputs, "outputs"));
  const Reader reader(config, resolved);
  PA_RETURN_IF_ERROR(reader.o_like(outputs->o, "o", true, &params->o));
  if (outputs->lse == nullptr && config.is_training == 0) return NVTE_SUCCESS;
  return reader.lse(outputs->lse, true, &params->lse);
}

NVTEStatus read_grad_inputs(const AttnConfig& config, const ResolvedConfig& resolved,
                            const NVTEFusedAttnGradInputs* inputs, AttnParams* params) {
  PA_RETURN_IF_ERROR(check_struct(inputs, "grad_inputs"));
  const Reader reader(config, resolved);
  PA_RETURN_IF_ERROR(reader.o_like(inputs->o, "o", false, &params->o));
  PA_RETURN_IF_ERROR(reader.lse(inputs->lse, false, &params->lse));
  return reader.o_like(inputs->d_o, "d_o", false, &params->d_o);
}

NVTEStatus read_grad_outputs(const AttnConfig& config, const ResolvedConfig& resolved,
                             const NVTEFusedAttnGradOutputs* outputs, AttnParams* params) {
  PA_RETURN_IF_ERROR(check_struct(outputs, "grad_outputs"));
  const Reader reader(config, resolved);
  PA_RETURN_IF_ERROR(reader.q_like(outputs->dq, "dq", true, &params->dq));
  PA_RETURN_IF_ERROR(reader.k_like(outputs->dk, "dk", true, &params->dk));
  PA_RETURN_IF_ERROR(reader.v_like(outputs->dv, "dv", true, &params->dv));
  if (config.bias_grad != 0) {
    PA_RETURN_IF_ERROR(reader.bias(outputs->dbias, "dbias", true, &params->dbias));
  } else {
    PA_RETURN_IF_ERROR(check_absent(outputs->dbias, "dbias", "bias_grad to 1"));
  }
  if (config.softmax_type == NVTE_LEARNABLE_SOFTMAX) {
    return reader.per_head(outputs->d_softmax_offset, "d_softmax_offset", true, &params->d_softmax_offset);
  }
  return check_absent(outputs->d_softmax_offset, "d_softmax_offset", "softmax_type to learnable");
}

NVTEStatus read_workspace(const ResolvedConfig& resolved, const WorkspaceLayout& layout, const NVTETensor* workspace,
                          void** base) {
  *base = nullptr;
  if (layout.total_bytes == 0) return NVTE_SUCCESS;
  PA_RETURN_IF_ERROR(check_tensor_struct(workspace, "workspace"));
  if (workspace->ndim == 1 && workspace->shape[0] < layout.total_bytes) {
    return fail(NVTE_WORKSPACE_TOO_SMALL,
                "workspace has %lld bytes; the config needs %lld: ask nvte_fused_attn_workspace_size()",
                static_cast<long long>(workspace->shape[0]), static_cast<long long>(layout.total_bytes));
  }
  const TensorRule rule = {"workspace", "n", kNVTEByte, 1, {workspace->shape[0]}, true, true, kWorkspaceAlignment};
  PA_RETURN_IF_ERROR(check_tensor(workspace, rule, resolved.device));
  *base = workspace->data;
  return NVTE_SUCCESS;
}

}  // namespace portattn
