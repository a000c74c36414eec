// Where a sequence lies: offsets and lengths of its queries and keys for bshd, sbhd, bhsd and thd, from device memory.
#pragma once

#include "attn/params.h"
#include "device/math.cuh"

namespace portattn {

// Rows [0, len) of a sequence hold tokens, rows [len, slot_len) are padding that outputs must zero.
struct SeqRows {
  int64_t start = 0;  // first row in the buffer, from the batch entry's own start
  int32_t len = 0;
  int32_t slot_len = 0;
};

PA_DEVICE SeqRows seq_rows(const SeqSide& side, int32_t batch, int32_t seq) {
  SeqRows rows;
  if (side.is_thd) {
    SeqSpan span = side.plan.spans[seq];
    rows.start = span.start;
    rows.len = span.len;
    rows.slot_len = span.slot_len;
  } else if (seq < batch) {
    const int64_t s = side.seqlen;
    int64_t len = s;
    if (side.cu_seqlens != nullptr) {
      len = static_cast<int64_t>(side.cu_seqlens[seq + 1]) - static_cast<int64_t>(side.cu_seqlens[seq]);
      len = clamp<int64_t>(len, 0, s);
    }
    rows.len = static_cast<int32_t>(len);
    rows.slot_len = static_cast<int32_t>(s);
  }
  return rows;
}

// First element of row `start + row` of a head. The gap before the first thd sequence has seq == batch and, like every
// thd tensor, batch stride 0.
template <class T>
PA_DEVICE T* row_pointer(const TensorView& view, int32_t seq, const SeqRows& rows, int64_t row, int32_t head) {
  return static_cast<T*>(view.data) + seq * view.batch_stride + (rows.start + row) * view.token_stride +
         head * view.head_stride;
}

// Of a sequence's first kRows rows: their group in the dq scratch, the scratch of one head, and the step to the next.
PA_DEVICE int64_t dq_scratch_group(const AttnParams& p, int32_t seq, const SeqRows& rows) {
  constexpr int64_t kRows = DqScratch::kRows;
  return p.q_side.is_thd ? rows.start / kRows + seq : ceil_div(p.q_side.seqlen, kRows) * seq;
}
PA_DEVICE float* dq_scratch(const AttnParams& p, int32_t seq, const SeqRows& rows, int32_t head) {
  return p.dq_accum.data + (dq_scratch_group(p, seq, rows) * p.num_heads_q + head) * DqScratch::kRows * p.head_dim_qk;
}
// Its row stats for one head, lse; those of delta follow row_stats_delta() floats on.
PA_DEVICE int64_t row_stats_delta(const AttnParams& p) {
  return dq_scratch_groups(p.q_side.is_thd, p.q_side.seqlen, p.batch) * DqScratch::kRows * p.num_heads_q;
}
PA_DEVICE float* row_stats(const AttnParams& p, int32_t seq, const SeqRows& rows, int32_t head) {
  const int64_t groups = dq_scratch_groups(p.q_side.is_thd, p.q_side.seqlen, p.batch);
  return p.row_stats.data + (head * groups + dq_scratch_group(p, seq, rows)) * DqScratch::kRows;
}
PA_DEVICE int64_t dq_scratch_step(const AttnParams& p) {
  return int64_t{DqScratch::kRows} * p.num_heads_q * p.head_dim_qk;
}

}  // namespace portattn
