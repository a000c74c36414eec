// A forward or backward call: arguments checked, AttnParams filled, kernels launched in order.
#pragma once

#include "core/resolve.h"
#include "portattn/fused_attn.h"

namespace portattn {

NVTEStatus run_forward(const AttnConfig& config, const ResolvedConfig& resolved, const NVTEFusedAttnInputs* inputs,
                       const NVTEFusedAttnOutputs* outputs, const NVTETensor* workspace, void* stream);

NVTEStatus run_backward(const AttnConfig& config, const ResolvedConfig& resolved, const NVTEFusedAttnInputs* inputs,
                        const NVTEFusedAttnGradInputs* grad_inputs, const NVTEFusedAttnGradOutputs* grad_outputs,
                        const NVTETensor* workspace, void* stream);

}  // namespace portattn
