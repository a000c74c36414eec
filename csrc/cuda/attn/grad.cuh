// The score part of a backward pass: from scores, lse and dp = do v^T to probabilities and score gradients.
#pragma once

#include "attn/dropout.cuh"
#include "attn/score.cuh"

namespace portattn {

// lse of this lane's rows in units of log 2. A row that saw nothing (lse = -inf) gets +inf, which makes its
// probabilities 0. Rows at or past `len` are not read and get 0: their scores are masked.
template <class Tile>
PA_DEVICE RowValues<Tile> row_lse_log2(const float* lse, int64_t stride, int32_t row0, int32_t len, int lane) {
  using Acc = typename Tile::Value;
  RowValues<Tile> out;
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    const int32_t row = row0 + Tile::Layout::row(lane, s);
    const Acc x = row < len ? static_cast<Acc>(lse[row * stride]) : Acc(0);
    out[s] = x == neg_inf<Acc>() ? -neg_inf<Acc>() : x * Acc(kLog2e);
  }
  return out;
}

template <class Tile>
PA_DEVICE RowValues<Tile> row_delta(const float* delta, int64_t stride, int32_t row0, int32_t len, int lane) {
  using Acc = typename Tile::Value;
  RowValues<Tile> out;
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    const int32_t row = row0 + Tile::Layout::row(lane, s);
    out[s] = row < len ? static_cast<Acc>(delta[row * stride]) : Acc(0);
  }
  return out;
}

// What the accumulators of dp = do v^T start from. Without dropout, dp enters as dp - delta only: starting from -delta
// saves the subtraction.
template <bool Extras, class Tile>
PA_DEVICE void start_dp(Tile& dp, const RowValues<Tile>& delta, int lane) {
  for_each(dp, lane, [&](typename Tile::Value& x, int r, int, int) { x = Extras ? 0 : -delta[r]; });
}

// In: s scores (Score::transform, masked), dp = start_dp + do v^T. Out: s what multiplied v in the forward (dropout
// applied), dp the gradient of attn_scale * q.k, of the score before the softcap.
template <class T, bool Extras, class Tile>
PA_DEVICE void softmax_grad(const Score<T, Extras>& score, const Dropout& dropout, const RowValues<Tile>& lse_log2,
                            const RowValues<Tile>& delta, int lane, int32_t row0, int32_t col0, Tile& s, Tile& dp) {
  using Acc = typename Tile::Value;
  const Acc exp_scale = score.exp_scale();
  [[maybe_unused]] KeepMask<Tile> keep;
  const Acc keep_scale = static_cast<Acc>(dropout.keep_scale);
  const bool drop = Extras && dropout.enabled();
  if constexpr (Extras) {
    if (drop) {
      keep.draw(dropout, lane, row0, col0);
      keep.apply(dp, keep_scale);
    }
    for_each(dp, lane, [&](Acc& g, int r, int, int) { g -= delta[r]; });
    score.multiply_softcap_slope(s, dp);
  }
  PA_UNROLL
  for (int r = 0; r < Tile::kRowSlots; ++r) {
    PA_UNROLL
    for (int c = 0; c < Tile::kColSlots; ++c) {
      const Acc p = fast_exp2(s.at(r, c) * exp_scale - lse_log2[r]);
      s.at(r, c) = p;
      dp.at(r, c) *= p;
    }
  }
  if (drop) keep.apply(s, keep_scale);
}

}  // namespace portattn
