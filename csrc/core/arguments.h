// Checks the tensors of a call against its config and fills them into AttnParams.
#pragma once

#include "core/resolve.h"
#include "portattn/fused_attn.h"

namespace portattn {

// Device pointers to cumulative lengths, for the sides whose plan is made on the device.
struct SeqlenArguments {
  const int32_t* cu_seqlens_q = nullptr;
  const int32_t* cu_seqlens_kv = nullptr;
  const int32_t* cu_seqlens_q_padded = nullptr;
  const int32_t* cu_seqlens_kv_padded = nullptr;
};

NVTEStatus read_inputs(const AttnConfig& config, const ResolvedConfig& resolved, const NVTEFusedAttnInputs* inputs,
                       AttnParams* params, SeqlenArguments* seqlens);

NVTEStatus read_outputs(const AttnConfig& config, const ResolvedConfig& resolved, const NVTEFusedAttnOutputs* outputs,
                        AttnParams* params);

NVTEStatus read_grad_inputs(const AttnConfig& config, const ResolvedConfig& resolved,
                            const NVTEFusedAttnGradInputs* inputs, AttnParams* params);

NVTEStatus read_grad_outputs(const AttnConfig& config, const ResolvedConfig& resolved,
                             const NVTEFusedAttnGradOutputs* outputs, AttnParams* params);

// NVTE_WORKSPACE_TOO_SMALL, or NVTE_INVALID_ARGUMENT, unless `workspace` has room for `layout`.
NVTEStatus read_workspace(const ResolvedConfig& resolved, const WorkspaceLayout& layout, const NVTETensor* workspace,
                          void** base);

}  // namespace portattn
