// Host interface of the steps of a backward pass that every backend shares. Plain C++, seen by csrc/core.
#pragma once

#include "attn/params.h"

namespace portattn {

// delta[b, i, h] = sum_d do[b, i, h, d] * o[b, i, h, d], 0 outside every sequence; also zeroes next_item, and of
// dq_accum and dq what DqUse says, and writes row_stats, where they are set.
// Reads cu_seqlens or the plan's spans, not its tiles.
int launch_delta(const AttnParams& params, DType dtype, void* stream);

// dq = dq_accum rounded once to dtype; rows outside every sequence 0.
int launch_convert_dq(const AttnParams& params, DType dtype, void* stream);

// dbias = sum over broadcast dimensions of dscore, in a fixed order (deterministic), any broadcast shape.
int launch_bias_grad(const AttnParams& params, DType dtype, void* stream);

// d_softmax_offset[h] = -sum over rows of exp(softmax_offset[h] - lse) * delta, in a fixed order.
int launch_sink_grad(const AttnParams& params, void* stream);

}  // namespace portattn
