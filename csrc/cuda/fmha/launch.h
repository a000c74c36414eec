// Host interface of the fused variable-length backend. Plain C++, seen by csrc/core through plugin.h.
#pragma once

#include <cstdint>

#include "attn/params.h"

namespace portattn {

// One generated kernel: a forward, a backward, or the dq of a deterministic backward.
struct FmhaKernel {
  const char* name;      // of its file, of itself in a profile, of itself in the log
  int32_t planned_rows;  // rows of the tiles that the caller must plan for: queries, or a backward's keys
  bool (*takes)(const AttnParams& params);  // which calls it serves; null = all
  int (*run)(const AttnParams& params, void* stream);
  // Of a backward: whether it reads AttnParams::row_stats, and what it does with dq_accum.
  bool row_stats = false;
  DqUse dq_use = {};
};

// Two kernels of one choice: `main` writes dk, dv and adds into dq_accum, as delta has left it; with dq_accum
// null it leaves dq to `dq`, which is deterministic and plans for tiles of queries. Where `dq` is null, `main` serves
// deterministic calls, too, and adds in a fixed order; or there are no deterministic calls, see takes_every_call().
struct FmhaBackward {
  const FmhaKernel* main;
  const FmhaKernel* dq;

  bool adds_dq(bool deterministic) const { return !deterministic || dq == nullptr; }
};

// Everything built for a dtype and a pair of head dims: kernels in order of preference. The last ones get what the
// others do not take: see takes_every_call().
struct FmhaInstance {
  const char* name;  // "hd128x128_bf16_sm80"
  DType dtype;
  int32_t head_dim_qk;  // largest head dims served; smaller multiples of 8 are zero-extended in shared memory
  int32_t head_dim_v;
  const FmhaKernel* const* forward;
  int32_t num_forward;
  const FmhaBackward* backward;
  int32_t num_backward;
};

// Whether the instance serves every call. One that does not has a single kernel a pass, which the caller must not ask
// for more than it takes; that is no call with extras (attn/params.h), and no deterministic one.
inline bool takes_every_call(const FmhaInstance& instance) {
  return instance.forward[instance.num_forward - 1]->takes == nullptr;
}

inline const FmhaKernel& forward_kernel(const FmhaInstance& instance, const AttnParams& params) {
  int32_t i = 0;
  while (i + 1 < instance.num_forward && !instance.forward[i]->takes(params)) ++i;
  return *instance.forward[i];
}

inline const FmhaBackward& backward_kernels(const FmhaInstance& instance, const AttnParams& params) {
  int32_t i = 0;
  while (i + 1 < instance.num_backward && !instance.backward[i].main->takes(params)) ++i;
  return instance.backward[i];
}

// The smallest instance that serves these head dims on the device, or null when none was built.
const FmhaInstance* find_fmha_instance(DType dtype, int32_t head_dim_qk, int32_t head_dim_v, int32_t device_arch);

}  // namespace portattn
