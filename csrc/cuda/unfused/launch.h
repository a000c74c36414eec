// Host interface of the exact fallback: any head dim up to kUnfusedMaxHeadDim, any dtype, any mask, linear memory.
// Plain C++, seen by csrc/core through plugin.h.
#pragma once

#include "attn/params.h"

namespace portattn {

constexpr int32_t kUnfusedMaxHeadDim = 1024;
constexpr int32_t kUnfusedBlockQ = 64;   // rows of a query tile: plan thd queries for it
constexpr int32_t kUnfusedBlockKv = 64;  // rows of a key tile: plan thd keys for it in the backward

int launch_unfused_fwd(const AttnParams& params, DType dtype, void* stream);
// Writes dq, dk, dv; two passes without atomics, so always deterministic. Needs delta.
int launch_unfused_bwd(const AttnParams& params, DType dtype, void* stream);

}  // namespace portattn
