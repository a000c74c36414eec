// portattn/small_seq.h: the small-sequence backend asked for by name.
#include "portattn/small_seq.h"

#include "core/capi/boundary.h"
#include "core/run.h"

namespace portattn {
namespace {

// Resolves the config with small_seq as its backend if an attribute has changed since the last call.
NVTEStatus resolve_small_seq(NVTEFusedAttnConfig config) {
  PA_RETURN_IF_ERROR(check_pointer(config, "config"));
  if (config->is_small_seq_resolved) return NVTE_SUCCESS;
  const int64_t backend = config->values.backend;
  if (backend != NVTE_No_Backend && backend != NVTE_Backend_Small_Seq) {
    return fail(
        NVTE_INVALID_ARGUMENT,
        "backend is %s, but the function asks for small_seq: leave backend unset, or call nvte_fused_attn_fwd() "
        "and _bwd()",
        nvte_fused_attn_backend_name(static_cast<NVTE_Fused_Attn_Backend>(backend)));
  }
  config->small_seq_values = config->values;
  config->small_seq_values.backend = NVTE_Backend_Small_Seq;
  PA_RETURN_IF_ERROR(resolve_config(config->small_seq_values, &config->small_seq));
  config->is_small_seq_resolved = true;
  return NVTE_SUCCESS;
}

NVTEStatus workspace_size(NVTEFusedAttnConfig config, NVTEDirection direction, size_t* bytes) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(bytes, "bytes"));
    PA_RETURN_IF_ERROR(resolve_small_seq(config));
    *bytes = static_cast<size_t>(config->small_seq.layout(direction).total_bytes);
    return NVTE_SUCCESS;
  });
}

// The inputs as the run of any backend takes them.
NVTEStatus all_inputs(const NVTESmallSeqInputs* inputs, NVTEFusedAttnInputs* all) {
  PA_RETURN_IF_ERROR(check_pointer(inputs, "inputs"));
  if (inputs->struct_size != sizeof(NVTESmallSeqInputs)) {
    return fail(NVTE_INVALID_ARGUMENT, "inputs has struct_size %zu; allowed: %zu: set it to the size of the struct",
                inputs->struct_size, sizeof(NVTESmallSeqInputs));
  }
  *all = NVTEFusedAttnInputs{};
  all->struct_size = sizeof(NVTEFusedAttnInputs);
  all->q = inputs->q;
  all->k = inputs->k;
  all->v = inputs->v;
  all->cu_seqlens_q = inputs->cu_seqlens_q;
  all->cu_seqlens_kv = inputs->cu_seqlens_kv;
  all->cu_seqlens_q_padded = inputs->cu_seqlens_q_padded;
  all->cu_seqlens_kv_padded = inputs->cu_seqlens_kv_padded;
  return NVTE_SUCCESS;
}

}  // namespace
}  // namespace portattn

using portattn::api_call;
using portattn::check_pointer;

extern "C" {

NVTEStatus nvte_is_small_seq_attn_supported(NVTEFusedAttnConfig config, int32_t* supported) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(supported, "supported"));
    const NVTEStatus status = portattn::resolve_small_seq(config);
    *supported = status == NVTE_SUCCESS;
    if (status != NVTE_NOT_SUPPORTED) return status;
    portattn::clear_last_error();  // the answer is no, which is no failure
    return NVTE_SUCCESS;
  });
}

NVTEStatus nvte_fused_attn_small_seq_fwd_workspace_size(NVTEFusedAttnConfig config, size_t* bytes) {
  return portattn::workspace_size(config, NVTE_FORWARD, bytes);
}

NVTEStatus nvte_fused_attn_small_seq_bwd_workspace_size(NVTEFusedAttnConfig config, size_t* bytes) {
  return portattn::workspace_size(config, NVTE_BACKWARD, bytes);
}

NVTEStatus nvte_fused_attn_small_seq_fwd(NVTEFusedAttnConfig config, const NVTESmallSeqInputs* inputs,
                                         const NVTEFusedAttnOutputs* outputs, const NVTETensor* workspace,
                                         void* stream) {
  return api_call([&] {
    NVTEFusedAttnInputs all;
    PA_RETURN_IF_ERROR(portattn::resolve_small_seq(config));
    PA_RETURN_IF_ERROR(portattn::all_inputs(inputs, &all));
    return portattn::run_forward(config->small_seq_values, config->small_seq, &all, outputs, workspace, stream);
  });
}

NVTEStatus nvte_fused_attn_small_seq_bwd(NVTEFusedAttnConfig config, const NVTESmallSeqInputs* inputs,
                                         const NVTEFusedAttnGradInputs* grad_inputs,
                                         const NVTEFusedAttnGradOutputs* grad_outputs, const NVTETensor* workspace,
                                         void* stream) {
  return api_call([&] {
    NVTEFusedAttnInputs all;
    PA_RETURN_IF_ERROR(portattn::resolve_small_seq(config));
    PA_RETURN_IF_ERROR(portattn::all_inputs(inputs, &all));
    return portattn::run_backward(config->small_seq_values, config->small_seq, &all, grad_inputs, grad_outputs,
                                  workspace, stream);
  });
}

}  // extern "C"
