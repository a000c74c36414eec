// The attribute table: name, type, range and place of every attribute; set, get and describe follow from it.
#include "core/config.h"

#include "core/status.h"
#include "core/text.h"
#include "cuda/attn/params.h"

namespace portattn {
namespace {

struct EnumName {
  int64_t value;
  const char* name;
};

constexpr EnumName kDTypes[] = {
    {kNVTEFloat32, "fp32"}, {kNVTEFloat16, "fp16"}, {kNVTEBFloat16, "bf16"}, {kNVTEFloat64, "fp64"}, {0, nullptr}};
constexpr EnumName kFormats[] = {
    {NVTE_SBHD, "sbhd"}, {NVTE_BSHD, "bshd"}, {NVTE_THD, "thd"}, {NVTE_BHSD, "bhsd"}, {0, nullptr}};
constexpr EnumName kMasks[] = {{NVTE_NO_MASK, "no_mask"},
                               {NVTE_PADDING_MASK, "padding"},
                               {NVTE_CAUSAL_MASK, "causal"},
                               {NVTE_PADDING_CAUSAL_MASK, "padding_causal"},
                               {NVTE_CAUSAL_BOTTOM_RIGHT_MASK, "causal_bottom_right"},
                               {NVTE_PADDING_CAUSAL_BOTTOM_RIGHT_MASK, "padding_causal_bottom_right"},
                               {NVTE_ARBITRARY_MASK, "arbitrary"},
                               {0, nullptr}};
constexpr EnumName kBiases[] = {{NVTE_NO_BIAS, "no_bias"},
                                {NVTE_PRE_SCALE_BIAS, "pre_scale_bias"},
                                {NVTE_POST_SCALE_BIAS, "post_scale_bias"},
                                {NVTE_ALIBI, "alibi"},
                                {0, nullptr}};
constexpr EnumName kSoftmaxes[] = {{NVTE_VANILLA_SOFTMAX, "vanilla"},
                                   {NVTE_OFF_BY_ONE_SOFTMAX, "off-by-one"},
                                   {NVTE_LEARNABLE_SOFTMAX, "learnable"},
                                   {0, nullptr}};
constexpr EnumName kBackends[] = {{NVTE_No_Backend, "none"},
                                  {NVTE_Backend_Fused_Varlen, "fused_varlen"},
                                  {NVTE_Backend_Small_Seq, "small_seq"},
                                  {NVTE_Backend_Unfused, "unfused"},
                                  {NVTE_Backend_Score_Mod_JIT, "score_mod_jit"},
                                  {0, nullptr}};
constexpr EnumName kDevices[] = {
    {NVTE_DEVICE_HOST, "host"}, {NVTE_DEVICE_CUDA, "cuda"}, {NVTE_DEVICE_HIP, "hip"}, {0, nullptr}};

constexpr int64_t kMaxCount = INT32_MAX;  // sequences, tokens and heads are counted in 32 bits on the device
constexpr double kMaxFloat = 3.4028234663852886e38;

struct IntAttr {
  NVTEFusedAttnAttr id;
  const char* name;
  int64_t AttnConfig::* member;
  int64_t min, max;                          // ignored for an enum
  const EnumName* names;                     // not null for an enum
  int64_t AttnConfig::* fallback = nullptr;  // the attribute whose value this one takes while it is unset
};

struct FloatAttr {
  NVTEFusedAttnAttr id;
  const char* name;
  double AttnConfig::* member;
  double min, max;
  const char* range;
};

constexpr IntAttr kIntAttrs[] = {
    {NVTE_ATTR_DTYPE, "dtype", &AttnConfig::dtype, 0, 0, kDTypes},
    {NVTE_ATTR_Q_FORMAT, "q_format", &AttnConfig::q_format, 0, 0, kFormats},
    {NVTE_ATTR_KV_FORMAT, "kv_format", &AttnConfig::kv_format, 0, 0, kFormats},
    {NVTE_ATTR_BATCH_SIZE, "batch_size", &AttnConfig::batch_size, 0, kMaxCount - 1, nullptr},
    {NVTE_ATTR_NUM_HEADS_Q, "num_heads_q", &AttnConfig::num_heads_q, 1, kMaxCount, nullptr},
    {NVTE_ATTR_NUM_HEADS_KV, "num_heads_kv", &AttnConfig::num_heads_kv, 1, kMaxCount, nullptr},
    {NVTE_ATTR_HEAD_DIM_QK, "head_dim_qk", &AttnConfig::head_dim_qk, 1, kMaxCount, nullptr},
    {NVTE_ATTR_HEAD_DIM_V, "head_dim_v", &AttnConfig::head_dim_v, 1, kMaxCount, nullptr},
    {NVTE_ATTR_MAX_SEQLEN_Q, "max_seqlen_q", &AttnConfig::max_seqlen_q, 0, kMaxSeqlen, nullptr},
    {NVTE_ATTR_MAX_SEQLEN_KV, "max_seqlen_kv", &AttnConfig::max_seqlen_kv, 0, kMaxSeqlen, nullptr},
    {NVTE_ATTR_TOTAL_TOKENS_Q, "total_tokens_q", &AttnConfig::total_tokens_q, 0, kMaxCount, nullptr},
    {NVTE_ATTR_TOTAL_TOKENS_KV, "total_tokens_kv", &AttnConfig::total_tokens_kv, 0, kMaxCount, nullptr},
    {NVTE_ATTR_MASK_TYPE, "mask_type", &AttnConfig::mask_type, 0, 0, kMasks},
    {NVTE_ATTR_WINDOW_LEFT, "window_left", &AttnConfig::window_left, -1, INT64_MAX, nullptr},
    {NVTE_ATTR_WINDOW_RIGHT, "window_right", &AttnConfig::window_right, -1, INT64_MAX, nullptr},
    {NVTE_ATTR_BOTTOM_RIGHT_DIAGONAL, "bottom_right_diagonal", &AttnConfig::bottom_right_diagonal, -1, 1, nullptr},
    {NVTE_ATTR_CHUNK_SIZE, "chunk_size", &AttnConfig::chunk_size, 0, INT64_MAX, nullptr},
    {NVTE_ATTR_BIAS_TYPE, "bias_type", &AttnConfig::bias_type, 0, 0, kBiases},
    {NVTE_ATTR_BIAS_BATCH, "bias_batch", &AttnConfig::bias_batch, 0, kMaxCount, nullptr},
    {NVTE_ATTR_BIAS_HEADS, "bias_heads", &AttnConfig::bias_heads, 1, kMaxCount, nullptr},
    {NVTE_ATTR_BIAS_SEQLEN_Q, "bias_seqlen_q", &AttnConfig::bias_seqlen_q, 0, kMaxCount, nullptr,
     &AttnConfig::max_seqlen_q},
    {NVTE_ATTR_BIAS_SEQLEN_KV, "bias_seqlen_kv", &AttnConfig::bias_seqlen_kv, 0, kMaxCount, nullptr,
     &AttnConfig::max_seqlen_kv},
    {NVTE_ATTR_BIAS_GRAD, "bias_grad", &AttnConfig::bias_grad, 0, 1, nullptr},
    {NVTE_ATTR_SOFTMAX_TYPE, "softmax_type", &AttnConfig::softmax_type, 0, 0, kSoftmaxes},
    {NVTE_ATTR_ALLOW_TF32, "allow_tf32", &AttnConfig::allow_tf32, 0, 1, nullptr},
    {NVTE_ATTR_IS_TRAINING, "is_training", &AttnConfig::is_training, 0, 1, nullptr},
    {NVTE_ATTR_DETERMINISTIC, "deterministic", &AttnConfig::deterministic, 0, 1, nullptr},
    {NVTE_ATTR_BACKEND, "backend", &AttnConfig::backend, 0, 0, kBackends},
    {NVTE_ATTR_STRICT, "strict", &AttnConfig::strict, 0, 1, nullptr},
    {NVTE_ATTR_DEVICE_TYPE, "device_type", &AttnConfig::device_type, 0, 0, kDevices},
    {NVTE_ATTR_DEVICE_INDEX, "device_index", &AttnConfig::device_index, 0, kMaxCount, nullptr},
    {NVTE_ATTR_MAX_SEGMENT_SEQLEN_Q, "max_segment_seqlen_q", &AttnConfig::max_segment_seqlen_q, 0, kMaxSeqlen, nullptr},
    {NVTE_ATTR_MAX_SEGMENT_SEQLEN_KV, "max_segment_seqlen_kv", &AttnConfig::max_segment_seqlen_kv, 0, kMaxSeqlen,
     nullptr},
};

constexpr FloatAttr kFloatAttrs[] = {
    {NVTE_ATTR_ATTN_SCALE, "attn_scale", &AttnConfig::attn_scale, -kMaxFloat, kMaxFloat, "a finite float32"},
    {NVTE_ATTR_SOFTCAP, "softcap", &AttnConfig::softcap, 0, kMaxFloat, "a finite float32, 0 or more"},
    {NVTE_ATTR_DROPOUT, "dropout", &AttnConfig::dropout, 0, 1 - 1e-9, "in [0, 1)"},
};

template <class Attr, size_t kCount>
const Attr* find_attr(const Attr (&attrs)[kCount], NVTEFusedAttnAttr id) {
  for (const Attr& attr : attrs) {
    if (attr.id == id) return &attr;
  }
  return nullptr;
}

NVTEStatus fail_wrong_type(NVTEFusedAttnAttr id, const char* wanted) {
  if (const IntAttr* attr = find_attr(kIntAttrs, id)) {
    return fail(NVTE_INVALID_ARGUMENT, "attribute %s is an integer, not a %s: use the _int function", attr->name,
                wanted);
  }
  if (const FloatAttr* attr = find_attr(kFloatAttrs, id)) {
    return fail(NVTE_INVALID_ARGUMENT, "attribute %s is a float, not an %s: use the _float function", attr->name,
                wanted);
  }
  return fail(NVTE_INVALID_ARGUMENT, "attribute %d does not exist: use a value of NVTEFusedAttnAttr",
              static_cast<int>(id));
}

const char* name_of(const EnumName* names, int64_t value) {
  for (const EnumName* entry = names; entry->name != nullptr; ++entry) {
    if (entry->value == value) return entry->name;
  }
  return nullptr;
}

std::string list_names(const EnumName* names) {
  std::string text;
  for (const EnumName* entry = names; entry->name != nullptr; ++entry) {
    text += format_text("%s%lld (%s)", text.empty() ? "" : ", ", static_cast<long long>(entry->value), entry->name);
  }
  return text;
}

NVTEStatus fail_out_of_range(const IntAttr& attr, int64_t value) {
  const std::string allowed = attr.names != nullptr ? list_names(attr.names)
                                                    : format_text("%lld to %lld", static_cast<long long>(attr.min),
                                                                  static_cast<long long>(attr.max));
  return fail(NVTE_INVALID_ARGUMENT, "%s is %lld; allowed: %s", attr.name, static_cast<long long>(value),
              allowed.c_str());
}

}  // namespace

NVTEStatus set_int(AttnConfig* config, NVTEFusedAttnAttr id, int64_t value) {
  const IntAttr* attr = find_attr(kIntAttrs, id);
  if (attr == nullptr) return fail_wrong_type(id, "integer");
  const bool allowed =
      attr->names != nullptr ? name_of(attr->names, value) != nullptr : value >= attr->min && value <= attr->max;
  if (!allowed) return fail_out_of_range(*attr, value);
  config->*attr->member = value;
  return NVTE_SUCCESS;
}

NVTEStatus set_float(AttnConfig* config, NVTEFusedAttnAttr id, double value) {
  const FloatAttr* attr = find_attr(kFloatAttrs, id);
  if (attr == nullptr) return fail_wrong_type(id, "float");
  if (!(value >= attr->min && value <= attr->max)) {  // written so that NaN is refused
    return fail(NVTE_INVALID_ARGUMENT, "%s is %g; allowed: %s", attr->name, value, attr->range);
  }
  config->*attr->member = value;
  return NVTE_SUCCESS;
}

NVTEStatus get_int(const AttnConfig& config, NVTEFusedAttnAttr id, int64_t* value) {
  const IntAttr* attr = find_attr(kIntAttrs, id);
  if (attr == nullptr) return fail_wrong_type(id, "integer");
  int64_t current = config.*attr->member;
  if (current == kUnset && attr->fallback != nullptr) current = config.*attr->fallback;
  if (current == kUnset) {
    return fail(NVTE_INVALID_ARGUMENT, "%s has not been set and has no default: set it first", attr->name);
  }
  *value = current;
  return NVTE_SUCCESS;
}

NVTEStatus get_float(const AttnConfig& config, NVTEFusedAttnAttr id, double* value) {
  const FloatAttr* attr = find_attr(kFloatAttrs, id);
  if (attr == nullptr) return fail_wrong_type(id, "float");
  *value = config.*attr->member;
  return NVTE_SUCCESS;
}

std::string describe_config(const AttnConfig& config) {
  const AttnConfig defaults;
  std::string text;
  for (const IntAttr& attr : kIntAttrs) {
    const int64_t value = config.*attr.member;
    if (value == defaults.*attr.member) continue;
    if (!text.empty()) text += ' ';
    text += attr.names != nullptr ? format_text("%s=%s", attr.name, name_of(attr.names, value))
                                  : format_text("%s=%lld", attr.name, static_cast<long long>(value));
  }
  for (const FloatAttr& attr : kFloatAttrs) {
    if (config.*attr.member != defaults.*attr.member) {
      text += format_text(" %s=%.17g", attr.name, config.*attr.member);
    }
  }
  return text;
}

const char* dtype_name(int64_t dtype) { return name_of(kDTypes, dtype); }
const char* format_name(int64_t format) { return name_of(kFormats, format); }
const char* mask_name(int64_t mask_type) { return name_of(kMasks, mask_type); }
const char* bias_name(int64_t bias_type) { return name_of(kBiases, bias_type); }
const char* softmax_name(int64_t softmax_type) { return name_of(kSoftmaxes, softmax_type); }
const char* device_name(int64_t device_type) { return name_of(kDevices, device_type); }

}  // namespace portattn
