// Host interface of the fused variable-length backend. Plain C++, seen by csrc/core through plugin.h.
#pragma once

#include <cstdint>

#include "attn/params.h"

namespace portattn {

// One generated pair of kernels (forward and backward) and the tile sizes that the caller must plan for.
struct FmhaInstance {
  const char* name;  // "hd128x128_bf16_sm80"
  DType dtype;
  int32_t head_dim_qk;  // largest head dims served; smaller multiples of 8 are zero-extended in shared memory
  int32_t head_dim_v;
  int32_t fwd_block_q;   // rows of a query tile in the forward
  int32_t bwd_block_q;   // rows of a query tile of the deterministic dq kernel
  int32_t bwd_block_kv;  // rows of a key tile in the backward
  int (*fwd)(const AttnParams& params, void* stream);
  // Writes dk, dv and either dq (deterministic) or adds into dq_accum, which the caller has zeroed.
  int (*bwd)(const AttnParams& params, void* stream);
};

// The smallest instance that serves these head dims on the device, or null when none was built.
const FmhaInstance* find_fmha_instance(DType dtype, int32_t head_dim_qk, int32_t head_dim_v, int32_t device_arch);

}  // namespace portattn
