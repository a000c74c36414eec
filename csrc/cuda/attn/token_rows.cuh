// For kernels that walk a buffer row by row rather than tile by tile: where a row of the token axis lies and whether a
// token of some sequence stands there.
#pragma once

#include "attn/seqlen_info.cuh"

namespace portattn {

// Rows of the buffer over all batch entries.
PA_HOST_DEVICE int64_t num_token_rows(const SeqSide& side, int32_t batch) {
  return side.is_thd ? side.seqlen : side.seqlen * batch;
}

// The last span of a thd buffer that starts at or before a token, -1 if none does. Starts never decrease, and of
// several spans with one start only the last can hold tokens.
PA_DEVICE int32_t last_starting_by(const SeqSpan* spans, int32_t num_seqs, int64_t token) {
  int32_t lo = -1, hi = num_seqs;
  while (hi - lo > 1) {
    const int32_t mid = lo + (hi - lo) / 2;
    (spans[mid].start <= token ? lo : hi) = mid;
  }
  return lo;
}

struct TokenRow {
  int64_t batch;  // 0 for thd
  int64_t token;

  PA_DEVICE TokenRow(const SeqSide& side, int64_t row)
      : batch(side.is_thd ? 0 : row / side.seqlen), token(side.is_thd ? row : row % side.seqlen) {}

  template <class T>
  PA_DEVICE T* pointer(const TensorView& view, int32_t head) const {
    return static_cast<T*>(view.data) + batch * view.batch_stride + token * view.token_stride + head * view.head_stride;
  }

  // The sequence that the token belongs to, -1 for padding.
  PA_DEVICE int32_t sequence(const SeqSide& side, int32_t num_seqs) const {
    const int32_t seq = side.is_thd ? last_starting_by(side.plan.spans, num_seqs, token) : static_cast<int32_t>(batch);
    if (seq < 0) return -1;
    const SeqRows rows = seq_rows(side, num_seqs, seq);
    return token - rows.start < rows.len ? seq : -1;
  }

  // How many rows of padding lie between the last token before the row and the row; -1 for a token.
  PA_DEVICE int64_t padding_depth(const SeqSide& side, int32_t num_seqs) const {
    const int32_t seq = side.is_thd ? last_starting_by(side.plan.spans, num_seqs, token) : static_cast<int32_t>(batch);
    if (seq < 0) return token;  // before the first sequence
    const SeqRows rows = seq_rows(side, num_seqs, seq);
    return max_of<int64_t>(token - rows.start - rows.len, -1);
  }
};

}  // namespace portattn
