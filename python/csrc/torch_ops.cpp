// The torch operators of portattn, on torch's stable ABI:
//   fused_attn_fwd -> (out, lse)     fused_attn_bwd -> (dq, dk, dv, dbias, d_softmax_offset)
//   fused_attn: fused_attn_fwd under the name that has an autograd formula (portattn/pytorch/ops.py)
//   fused_attn_explain -> text
// They fill the C API's structs, allocate outputs and workspace, and launch on torch's current stream. Static settings
// arrive as `attrs`: NVTE_ATTR number, value, NVTE_ATTR number, value, ... No handle or pointer crosses, so graphs that
// hold these calls can be cached. Shapes of out and lse are repeated for tracing in portattn/pytorch/ops.py.
#include <tuple>

#include "bindings/config_cache.h"
#include "tensor_view.h"

namespace portattn_torch {
namespace {

using portattn_bindings::cached_config;
using portattn_bindings::check;
using portattn_bindings::Config;
using portattn_bindings::ConfigKey;

struct FormatDims {
  int batch;  // -1: packed
  int seq;
  int head;
  const char* name;
};

FormatDims format_dims(int64_t format) {
  switch (format) {
    case NVTE_SBHD:
      return {1, 0, 2, "sbhd"};
    case NVTE_BSHD:
      return {0, 1, 2, "bshd"};
    case NVTE_BHSD:
      return {0, 2, 1, "bhsd"};
    case NVTE_THD:
      return {-1, 0, 1, "thd"};
    default:
      throw std::invalid_argument("unknown qkv format number " + std::to_string(format));
  }
}

// Arguments shared by every operator, in schema order.
struct Problem {
  Tensor q, k, v;
  OptionalTensor bias, softmax_offset, alibi_slopes, attention_mask;
  OptionalTensor cu_seqlens_q, cu_seqlens_kv, cu_seqlens_q_padded, cu_seqlens_kv_padded, rng_state;
  std::vector<int64_t> attrs;
  double attn_scale, softcap, dropout_p;
  int64_t max_seqlen_q, max_seqlen_kv;

  int64_t format() const {
    for (size_t i = 0; i + 1 < attrs.size(); i += 2) {
      if (attrs[i] == NVTE_ATTR_Q_FORMAT) return attrs[i + 1];
    }
    return NVTE_BSHD;
  }
};

#define PORTATTN_PROBLEM_SCHEMA                                                                        \
  "Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor? softmax_offset, Tensor? alibi_slopes, "         \
  "Tensor? attention_mask, Tensor? cu_seqlens_q, Tensor? cu_seqlens_kv, Tensor? cu_seqlens_q_padded, " \
  "Tensor? cu_seqlens_kv_padded, Tensor? rng_state, int[] attrs, float attn_scale, float softcap, "    \
  "float dropout_p, SymInt max_seqlen_q, SymInt max_seqlen_kv"

// Takes arguments off the dispatcher's stack one by one, in schema order. Each is owned by whoever takes it.
class ArgReader {
 public:
  explicit ArgReader(const StableIValue* next) : next_(next) {}

  template <typename T>
  T take() {
    return torch::stable::detail::to<T>(*next_++);
  }

  // Members are initialised in the order of the list, which is the schema's.
  Problem take_problem() {
    return Problem{take<Tensor>(),
                   take<Tensor>(),
                   take<Tensor>(),
                   take<OptionalTensor>(),
                   take<OptionalTensor>(),
                   take<OptionalTensor>(),
                   take<OptionalTensor>(),
                   take<OptionalTensor>(),
                   take<OptionalTensor>(),
                   take<OptionalTensor>(),
                   take<OptionalTensor>(),
                   take<OptionalTensor>(),
                   take<std::vector<int64_t>>(),
                   take<double>(),
                   take<double>(),
                   take<double>(),
                   take<int64_t>(),
                   take<int64_t>()};
  }

 private:
  const StableIValue* next_;
};

void check_rank(const Tensor& tensor, const char* name, const FormatDims& dims) {
  const int64_t rank = dims.batch < 0 ? 3 : 4;
  if (tensor.dim() == rank) return;
  throw std::invalid_argument(std::string(name) + " has " + std::to_string(tensor.dim()) +
                              " dimensions, but qkv_format \"" + dims.name + "\" needs " + std::to_string(rank));
}

// The shapes as attributes, after the static ones.
ConfigKey config_key(const Problem& problem, const FormatDims& dims) {
  check_rank(problem.q, "q", dims);
  check_rank(problem.k, "k", dims);
  check_rank(problem.v, "v", dims);
  const auto q = problem.q.sizes();
  const auto k = problem.k.sizes();
  ConfigKey key;
  key.ints.reserve(problem.attrs.size() + 40);
  key.ints = problem.attrs;
  key.add(NVTE_ATTR_DTYPE, dtype_of(problem.q, "q"));
  key.add(NVTE_ATTR_DEVICE_TYPE, device_type_of(problem.q));
  if (!problem.q.is_cpu()) key.add(NVTE_ATTR_DEVICE_INDEX, problem.q.get_device_index());
  key.add(NVTE_ATTR_NUM_HEADS_Q, q[dims.head]);
  key.add(NVTE_ATTR_NUM_HEADS_KV, k[dims.head]);
  key.add(NVTE_ATTR_HEAD_DIM_QK, q[q.size() - 1]);
  key.add(NVTE_ATTR_HEAD_DIM_V, problem.v.size(problem.v.dim() - 1));
  if (dims.batch < 0) {
    if (!problem.cu_seqlens_q || !problem.cu_seqlens_kv) {
      throw std::invalid_argument(
          "qkv_format \"thd\" needs cu_seqlens_q and cu_seqlens_kv, int32 [b + 1] on q's device");
    }
    key.add(NVTE_ATTR_BATCH_SIZE, problem.cu_seqlens_q->numel() - 1);
    key.add(NVTE_ATTR_TOTAL_TOKENS_Q, q[dims.seq]);
    key.add(NVTE_ATTR_TOTAL_TOKENS_KV, k[dims.seq]);
    key.add(NVTE_ATTR_MAX_SEQLEN_Q, problem.max_seqlen_q);
    key.add(NVTE_ATTR_MAX_SEQLEN_KV, problem.max_seqlen_kv);
  } else {
    key.add(NVTE_ATTR_BATCH_SIZE, q[dims.batch]);
    key.add(NVTE_ATTR_MAX_SEQLEN_Q, q[dims.seq]);
    key.add(NVTE_ATTR_MAX_SEQLEN_KV, k[dims.seq]);
  }
  if (problem.bias) {
    const auto bias = problem.bias->sizes();
    if (bias.size() != 4) throw std::invalid_argument("bias must have 4 dimensions [1 or b, 1 or h, s_q, s_kv]");
    key.add(NVTE_ATTR_BIAS_BATCH, bias[0]);
    key.add(NVTE_ATTR_BIAS_HEADS, bias[1]);
    key.add(NVTE_ATTR_BIAS_SEQLEN_Q, bias[2]);
    key.add(NVTE_ATTR_BIAS_SEQLEN_KV, bias[3]);
  }
  key.floats = {{{NVTE_ATTR_ATTN_SCALE, problem.attn_scale},
                 {NVTE_ATTR_SOFTCAP, problem.softcap},
                 {NVTE_ATTR_DROPOUT, problem.dropout_p}}};
  return key;
}

// The C API's view of the inputs. Keeps the copies that loads needed alive.
class Inputs {
 public:
  explicit Inputs(const Problem& problem)
      : q_(loadable(problem.q)),
        k_(loadable(problem.k)),
        v_(loadable(problem.v)),
        views_{View(q_, "q"),
               View(k_, "k"),
               View(v_, "v"),
               View(problem.bias, "bias"),
               View(problem.softmax_offset, "softmax_offset"),
               View(problem.alibi_slopes, "alibi_slopes"),
               View(problem.attention_mask, "attention_mask"),
               View(problem.cu_seqlens_q, "cu_seqlens_q"),
               View(problem.cu_seqlens_kv, "cu_seqlens_kv"),
               View(problem.cu_seqlens_q_padded, "cu_seqlens_q_padded"),
               View(problem.cu_seqlens_kv_padded, "cu_seqlens_kv_padded"),
               View(problem.rng_state, "rng_state")} {}

  NVTEFusedAttnInputs c_struct() const {
    return {sizeof(NVTEFusedAttnInputs),
            views_[0].ptr(),
            views_[1].ptr(),
            views_[2].ptr(),
            views_[3].ptr(),
            views_[4].ptr(),
            views_[5].ptr(),
            views_[6].ptr(),
            views_[7].ptr(),
            views_[8].ptr(),
            views_[9].ptr(),
            views_[10].ptr(),
            views_[11].ptr()};
  }

 private:
  Tensor q_, k_, v_;
  std::array<View, 12> views_;
};

// The user's lse is [b, h, s] ([t, h] when packed); the C API's follows the format's order.
View lse_view(const Tensor& lse, int64_t format) {
  const View view(lse, "lse");
  if (format == NVTE_BSHD) return view.permuted({0, 2, 1});
  if (format == NVTE_SBHD) return view.permuted({2, 0, 1});
  return view;
}

Tensor fresh_lse(const Tensor& q, const FormatDims& dims) {
  std::vector<int64_t> shape = {q.size(dims.seq), q.size(dims.head)};
  if (dims.batch >= 0) shape = {q.size(dims.batch), q.size(dims.head), q.size(dims.seq)};
  return fresh(shape, aoti_torch_dtype_float32(), q);
}

Tensor fresh_out(const Problem& problem) {
  const auto sizes = problem.q.sizes();
  std::vector<int64_t> shape(sizes.begin(), sizes.end());
  shape.back() = problem.v.size(problem.v.dim() - 1);
  int32_t dtype = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(problem.q.get(), &dtype));
  return fresh(shape, dtype, problem.q);
}

std::tuple<Tensor, Tensor> forward(const Problem& problem, bool with_lse) {
  const int64_t format = problem.format();
  const FormatDims dims = format_dims(format);
  Config& config = cached_config(config_key(problem, dims));
  const Inputs inputs(problem);
  Tensor out = fresh_out(problem);
  Tensor lse = with_lse ? fresh_lse(problem.q, dims) : fresh({0}, aoti_torch_dtype_float32(), problem.q);
  const View out_c(out, "out");
  const View lse_c = with_lse ? lse_view(lse, format) : View();
  const NVTEFusedAttnInputs c_inputs = inputs.c_struct();
  const NVTEFusedAttnOutputs c_outputs = {sizeof(NVTEFusedAttnOutputs), out_c.ptr(), lse_c.ptr()};
  const Workspace workspace(config.workspace_bytes(NVTE_FORWARD), problem.q);
  check(nvte_fused_attn_fwd(config.handle(), &c_inputs, &c_outputs, workspace.ptr(), current_stream(problem.q)));
  return {out, lse};
}

struct Gradients {
  Tensor dq, dk, dv;
  Tensor dbias, d_softmax_offset;  // [0] where the config asks for none
};

Gradients backward(const Tensor& grad_out, const Tensor& saved_out, const Tensor& lse, const Problem& problem) {
  const int64_t format = problem.format();
  const ConfigKey key = config_key(problem, format_dims(format));
  Config& config = cached_config(key);
  const Inputs inputs(problem);
  const Tensor d_o = loadable(grad_out);
  const Tensor out = loadable(saved_out);
  const View out_c(out, "out"), d_o_c(d_o, "d_o"), lse_c = lse_view(lse, format);
  const bool with_dbias = problem.bias && key.get(NVTE_ATTR_BIAS_GRAD, 0) != 0;
  const bool with_d_offset = problem.softmax_offset.has_value();
  const auto nothing = [&] { return fresh({0}, aoti_torch_dtype_float32(), problem.q); };
  Gradients grads{fresh_like(problem.q), fresh_like(problem.k), fresh_like(problem.v),
                  with_dbias ? fresh_like(*problem.bias) : nothing(),
                  with_d_offset ? fresh_like(*problem.softmax_offset) : nothing()};
  const View dq(grads.dq, "dq"), dk(grads.dk, "dk"), dv(grads.dv, "dv");
  const View dbias = with_dbias ? View(grads.dbias, "dbias") : View();
  const View d_offset = with_d_offset ? View(grads.d_softmax_offset, "d_softmax_offset") : View();
  const NVTEFusedAttnInputs c_inputs = inputs.c_struct();
  const NVTEFusedAttnGradInputs c_grad_inputs = {sizeof(NVTEFusedAttnGradInputs), out_c.ptr(), lse_c.ptr(),
                                                 d_o_c.ptr()};
  const NVTEFusedAttnGradOutputs c_grad_outputs = {
      sizeof(NVTEFusedAttnGradOutputs), dq.ptr(), dk.ptr(), dv.ptr(), dbias.ptr(), d_offset.ptr()};
  const Workspace workspace(config.workspace_bytes(NVTE_BACKWARD), problem.q);
  check(nvte_fused_attn_bwd(config.handle(), &c_inputs, &c_grad_inputs, &c_grad_outputs, workspace.ptr(),
                            current_stream(problem.q)));
  return grads;
}

std::string explain(const Problem& problem) {
  Config& config = cached_config(config_key(problem, format_dims(problem.format())));
  size_t length = 0;
  check(nvte_explain_fused_attn_backend(config.handle(), nullptr, 0, &length));
  std::string text(length + 1, '\0');
  check(nvte_explain_fused_attn_backend(config.handle(), text.data(), text.size(), &length));
  text.resize(length);
  return text;
}

void boxed_forward(StableIValue* stack, uint64_t, uint64_t) {
  ArgReader args(stack);
  const Problem problem = args.take_problem();
  auto [out, lse] = forward(problem, args.take<bool>());
  stack[0] = torch::stable::detail::from(out);
  stack[1] = torch::stable::detail::from(lse);
}

void boxed_backward(StableIValue* stack, uint64_t, uint64_t) {
  ArgReader args(stack);
  const auto d_o = args.take<Tensor>();
  const auto out = args.take<Tensor>();
  const auto lse = args.take<Tensor>();
  const Gradients grads = backward(d_o, out, lse, args.take_problem());
  StableIValue* result = stack;
  for (const Tensor& grad : {grads.dq, grads.dk, grads.dv, grads.dbias, grads.d_softmax_offset}) {
    *result++ = torch::stable::detail::from(grad);
  }
}

void boxed_explain(StableIValue* stack, uint64_t, uint64_t) {
  stack[0] = torch::stable::detail::from(explain(ArgReader(stack).take_problem()));
}

void register_kernels(torch::stable::detail::StableLibrary& library) {
  library.impl("fused_attn_fwd", &boxed_forward);
  library.impl("fused_attn", &boxed_forward);
  library.impl("fused_attn_bwd", &boxed_backward);
  library.impl("fused_attn_explain", &boxed_explain);
}

}  // namespace

STABLE_TORCH_LIBRARY(portattn, library) {
  library.def("fused_attn_fwd(" PORTATTN_PROBLEM_SCHEMA ", bool with_lse) -> (Tensor out, Tensor lse)");
  library.def("fused_attn(" PORTATTN_PROBLEM_SCHEMA ", bool with_lse) -> (Tensor out, Tensor lse)");
  library.def("fused_attn_bwd(Tensor d_o, Tensor out, Tensor lse, " PORTATTN_PROBLEM_SCHEMA
              ") -> (Tensor dq, Tensor dk, Tensor dv, Tensor dbias, Tensor d_softmax_offset)");
  library.def("fused_attn_explain(" PORTATTN_PROBLEM_SCHEMA ") -> str");
}

STABLE_TORCH_LIBRARY_IMPL(portattn, CPU, library) { register_kernels(library); }
STABLE_TORCH_LIBRARY_IMPL(portattn, CUDA, library) { register_kernels(library); }

}  // namespace portattn_torch
