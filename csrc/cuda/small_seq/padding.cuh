// Long stretches of padding: a unit zeroes the first rows after its segment, blocks of their own zero the rest, so that
// one gap of many rows is the work of many blocks. They look at rows, not at segments, and come first in the grid.
#pragma once

#include "attn/token_rows.cuh"
#include "small_seq/unit.cuh"

namespace portattn {

template <int Threads>
struct FarPadding {
  static constexpr int64_t kRows = 1024;  // of a block

  PA_HOST_DEVICE static int32_t blocks(const SeqSide& side, int32_t batch) {
    const bool has_padding = side.is_thd || side.cu_seqlens != nullptr;
    return has_padding ? static_cast<int32_t>(ceil_div(num_token_rows(side, batch), kRows)) : 0;
  }

  // f(row, lane) for each row of the block that no unit zeroes, with all lanes of a warp.
  template <class F>
  static PA_DEVICE void for_each(const AttnParams& p, const SeqSide& side, int64_t block, int tid, F f) {
    const int64_t rows = num_token_rows(side, p.batch), end = min_of(rows, (block + 1) * kRows);
    const int lane = tid % kWarpSize;
    if (side.is_thd && !has_wide_gap(side.plan.spans, p.batch, block * kRows, end, lane)) return;
    for (int64_t first = block * kRows; first < end; first += Threads) {
      const int64_t row = first + tid;
      const bool is_far = row < rows && TokenRow(side, row).padding_depth(side, p.batch) >= SmallSeqUnit::kOwnPadding;
      if (!warp_any(is_far)) continue;
      for (int i = 0; i < kWarpSize; ++i) {
        if (shuffle_from(static_cast<int>(is_far), i) != 0) f(TokenRow(side, row - lane + i), lane);
      }
    }
  }

  // Whether a gap in rows [first, end) may be wider than what units zero: most buffers have none, and are not searched
  // row by row. Looks at the spans of the rows, if these are not too many.
  static PA_DEVICE bool has_wide_gap(const SeqSpan* spans, int32_t num_seqs, int64_t first, int64_t end, int lane) {
    const int32_t before = last_starting_by(spans, num_seqs, first);
    if (before < 0) return true;
    for (int32_t looked_at = 0; looked_at <= kRows; looked_at += kWarpSize) {
      const int32_t seq = before + looked_at + lane;
      const SeqSpan span = spans[min_of(seq, num_seqs - 1)];
      const bool is_here = seq < num_seqs && span.start < end;
      if (warp_any(is_here && span.slot_len - span.len > SmallSeqUnit::kOwnPadding)) return true;
      if (warp_any(!is_here)) return false;
    }
    return true;
  }

  // All heads of one row.
  template <class T>
  static PA_DEVICE void zero(const TensorView& view, const TokenRow& row, int32_t heads, int32_t dim, int lane) {
    constexpr int kVec = Vec16<T>::kSize;
    const int32_t vectors = dim / kVec;
    for (int32_t i = lane; i < heads * vectors; i += kWarpSize) {
      const Vec16<T> zeros{};
      store_vec(row.template pointer<T>(view, i / vectors) + i % vectors * kVec, zeros, kVec, true);
    }
  }
};

}  // namespace portattn
