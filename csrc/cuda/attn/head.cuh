// One (sequence, query head) as all threads of a block see it: where its operands lie and how its scores are made.
// Kept in shared memory, where it costs no registers: they belong to the accumulators.
#pragma once

#include "attn/score.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/visibility.cuh"
#include "device/philox.cuh"

namespace portattn {

// Pointers are to the first row of the sequence.
template <class T>
struct AttnHead {
  const T *q, *k, *v;
  Visibility visible;
  Score<T, true> score;
  Dropout dropout;

  PA_DEVICE AttnHead(const AttnParams& p, int32_t seq, int32_t head, const SeqRows& q_rows, const SeqRows& kv_rows)
      : q(row_pointer<const T>(p.q, seq, q_rows, 0, head)),
        k(row_pointer<const T>(p.k, seq, kv_rows, 0, head / (p.num_heads_q / p.num_heads_kv))),
        v(row_pointer<const T>(p.v, seq, kv_rows, 0, head / (p.num_heads_q / p.num_heads_kv))),
        visible(p, q_rows.len, kv_rows.len),
        score(p, seq, head, visible.offset()),
        dropout(make_dropout(p, seq, head)) {}
};

// With what a backward reads.
template <class T>
struct AttnGradHead : AttnHead<T> {
  const T* d_o;
  const float *lse, *delta;

  PA_DEVICE AttnGradHead(const AttnParams& p, int32_t seq, int32_t head, const SeqRows& q_rows, const SeqRows& kv_rows)
      : AttnHead<T>(p, seq, head, q_rows, kv_rows),
        d_o(row_pointer<const T>(p.d_o, seq, q_rows, 0, head)),
        lse(row_pointer<const float>(p.lse, seq, q_rows, 0, head)),
        delta(row_pointer<const float>(p.delta, seq, q_rows, 0, head)) {}
};

}  // namespace portattn
