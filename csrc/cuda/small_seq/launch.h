// Host interface of the small-sequence kernels: very many segments of a few queries and keys. Plain C++, seen by
// csrc/core through plugin.h.
#pragma once

#include "attn/params.h"

namespace portattn {

// Queries, and keys, of a segment that the kernels are made for. Longer segments are computed all the same, slowly.
constexpr int32_t kSmallSeqMaxSeqlen = 32;
// Head dims: multiples of 8 up to the first, and the second.
constexpr int32_t kSmallSeqMaxHeadDim = 256;
constexpr int32_t kSmallSeqWideHeadDim = 512;

int launch_small_seq_fwd(const AttnParams& params, DType dtype, void* stream);
// Writes dq, dk, dv once, without atomics, so always deterministic. Needs no delta.
int launch_small_seq_bwd(const AttnParams& params, DType dtype, void* stream);

}  // namespace portattn
