// XLA FFI handlers for the platforms cpu, CUDA and ROCM, from one source and without a vendor header: a stream is a
// void*. Handlers: fused_attn_fwd, fused_attn_bwd, cu_seqlens. Python (portattn_jax/primitives/ffi.py) registers them.
//
// Attributes of an attention call: `operands` and `results` name the buffers, `packed_dim` is the place of the 2 or 3
// of a packed buffer, `ints` and `floats` hold NVTE_ATTR numbers and values: number, value, number, value, ... The
// config is built from them once and found again by content. The workspace is one of the results, sized when the call
// was lowered. Nothing here allocates, waits or reads device memory, so calls go into command buffers (graphs).
#include "bindings/config_cache.h"
#include "buffer_views.h"

namespace portattn_jax {
namespace {

using portattn_bindings::cached_config;
using portattn_bindings::check;
using portattn_bindings::ConfigKey;

constexpr NVTEFusedAttnAttr kFloatAttrs[] = {NVTE_ATTR_ATTN_SCALE, NVTE_ATTR_SOFTCAP, NVTE_ATTR_DROPOUT};

template <class T>
T attribute(const ffi::Dictionary& attributes, const char* name) {
  const ffi::ErrorOr<T> value = attributes.get<T>(name);
  if (value.has_error()) throw std::invalid_argument(std::string(name) + ": " + value.error().message());
  return value.value();
}

// What XLA hands to a handler.
struct Call {
  DevicePlace place;
  void* stream;
  ffi::RemainingArgs operands;
  ffi::RemainingRets results;
  ffi::Dictionary attributes;
};

BufferViews views_of(const Call& call, int64_t packed_dim) {
  BufferViews views(call.place, packed_dim);
  auto names = attribute<std::string_view>(call.attributes, "operands");
  for (size_t i = 0; i < call.operands.size(); ++i) views.add(&names, call.operands.get<ffi::AnyBuffer>(i).value());
  names = attribute<std::string_view>(call.attributes, "results");
  for (size_t i = 0; i < call.results.size(); ++i) views.add(&names, *call.results.get<ffi::AnyBuffer>(i).value());
  return views;
}

ConfigKey config_key(const Call& call) {
  const auto ints = attribute<ffi::Span<const int64_t>>(call.attributes, "ints");
  const auto floats = attribute<ffi::Span<const double>>(call.attributes, "floats");
  ConfigKey key;
  key.ints.assign(ints.begin(), ints.end());
  key.add(NVTE_ATTR_DEVICE_TYPE, call.place.type);
  key.add(NVTE_ATTR_DEVICE_INDEX, call.place.index);
  if (floats.size() != key.floats.size()) throw std::invalid_argument("floats must hold scale, softcap and dropout");
  for (size_t i = 0; i < floats.size(); ++i) key.floats[i] = {kFloatAttrs[i], floats[i]};
  return key;
}

NVTEFusedAttnInputs inputs_of(const BufferViews& views) {
  return {sizeof(NVTEFusedAttnInputs),
          views.find("q"),
          views.find("k"),
          views.find("v"),
          views.find("bias"),
          views.find("softmax_offset"),
          views.find("alibi_slopes"),
          views.find("attention_mask"),
          views.find("cu_seqlens_q"),
          views.find("cu_seqlens_kv"),
          views.find("cu_seqlens_q_padded"),
          views.find("cu_seqlens_kv_padded"),
          views.find("rng_state")};
}

void fused_attn_fwd(const Call& call) {
  const BufferViews views = views_of(call, attribute<int64_t>(call.attributes, "packed_dim"));
  const NVTEFusedAttnInputs inputs = inputs_of(views);
  const NVTEFusedAttnOutputs outputs = {sizeof(NVTEFusedAttnOutputs), views.find("o"), views.find("lse")};
  check(nvte_fused_attn_fwd(cached_config(config_key(call)).handle(), &inputs, &outputs, views.find("workspace"),
                            call.stream));
}

void fused_attn_bwd(const Call& call) {
  const BufferViews views = views_of(call, attribute<int64_t>(call.attributes, "packed_dim"));
  const NVTEFusedAttnInputs inputs = inputs_of(views);
  const NVTEFusedAttnGradInputs grad_inputs = {sizeof(NVTEFusedAttnGradInputs), views.find("o"), views.find("lse"),
                                               views.find("d_o")};
  const NVTEFusedAttnGradOutputs grad_outputs = {
      sizeof(NVTEFusedAttnGradOutputs), views.find("dq"), views.find("dk"), views.find("dv"), views.find("dbias"),
      views.find("d_softmax_offset")};
  check(nvte_fused_attn_bwd(cached_config(config_key(call)).handle(), &inputs, &grad_inputs, &grad_outputs,
                            views.find("workspace"), call.stream));
}

// The segments of one side, or without cu_seqlens nothing.
NVTESegments segments_of(const Call& call, const BufferViews& views, const std::string& side) {
  return {sizeof(NVTESegments),
          views.find("seqlens_" + side),
          views.find("seq_offsets_" + side),
          views.find("segment_ids_" + side),
          attribute<int64_t>(call.attributes, ("row_tokens_" + side).c_str()),
          views.find("cu_seqlens_" + side),
          views.find("cu_seqlens_" + side + "_padded")};
}

void cu_seqlens(const Call& call) {
  const BufferViews views = views_of(call, -1);
  const NVTESegments q = segments_of(call, views, "q"), kv = segments_of(call, views, "kv");
  check(nvte_make_cu_seqlens(&q, kv.cu_seqlens == nullptr ? nullptr : &kv, call.stream));
}

// Exceptions end here: what the caller got wrong, and what no backend can do, is an invalid argument.
template <class Body>
ffi::Error guarded(Body&& body) {
  try {
    body();
    return ffi::Error::Success();
  } catch (const std::invalid_argument& error) {
    return ffi::Error::InvalidArgument(error.what());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(error.what());
  }
}

template <void (*kRun)(const Call&)>
ffi::Error on_host(ffi::RemainingArgs operands, ffi::RemainingRets results, ffi::Dictionary attributes) {
  return guarded([&] { kRun({{nvte_cpu_device_type(), 0}, nullptr, operands, results, attributes}); });
}

template <NVTEDeviceType kType, void (*kRun)(const Call&)>
ffi::Error on_gpu(void* stream, int32_t device, ffi::RemainingArgs operands, ffi::RemainingRets results,
                  ffi::Dictionary attributes) {
  return guarded([&] { kRun({{kType, device}, stream, operands, results, attributes}); });
}

auto host_binding() { return ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attrs(); }

auto gpu_binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::PlatformStream<void*>>()
      .Ctx<ffi::DeviceOrdinal>()
      .RemainingArgs()
      .RemainingRets()
      .Attrs();
}

}  // namespace
}  // namespace portattn_jax

// A handler as a C function: portattn_jax_<name>_<platform>.
#define PORTATTN_JAX_HANDLER(symbol, binding, ...)                                                   \
  extern "C" NVTE_API XLA_FFI_Error* portattn_jax_##symbol(XLA_FFI_CallFrame* frame) {               \
    using namespace portattn_jax;                                                                    \
    static auto* handler = binding().To(__VA_ARGS__, {ffi::Traits::kCmdBufferCompatible}).release(); \
    return handler->Call(frame);                                                                     \
  }
#define PORTATTN_JAX_HANDLERS(name)                                              \
  PORTATTN_JAX_HANDLER(name##_cpu, host_binding, on_host<name>)                  \
  PORTATTN_JAX_HANDLER(name##_cuda, gpu_binding, on_gpu<NVTE_DEVICE_CUDA, name>) \
  PORTATTN_JAX_HANDLER(name##_rocm, gpu_binding, on_gpu<NVTE_DEVICE_HIP, name>)

PORTATTN_JAX_HANDLERS(fused_attn_fwd)
PORTATTN_JAX_HANDLERS(fused_attn_bwd)
PORTATTN_JAX_HANDLERS(cu_seqlens)
