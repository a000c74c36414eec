// The score part of a backward pass: from scores, lse and dp = do v^T to probabilities and score gradients.
#pragma once

#include "attn/dropout.cuh"
#include "attn/score.cuh"

namespace portattn {

// What the backward needs of each row: lse in units of log 2, and delta. A row that saw nothing (lse = -inf) gets +inf,
// which makes its probabilities 0. `len` rows are read; those past it are masked anyway and get 0.
template <class Tile>
struct RowStats {
  using Acc = typename Tile::Value;
  RowValues<Tile> lse_log2, delta;

  PA_DEVICE RowStats(const float* lse, int64_t lse_stride, const float* d, int64_t delta_stride, int32_t row0,
                     int32_t len, int lane) {
    PA_UNROLL
    for (int s = 0; s < Tile::kRowSlots; ++s) {
      const int32_t row = row0 + Tile::Layout::row(lane, s);
      const Acc x = row < len ? static_cast<Acc>(lse[row * lse_stride]) : Acc(0);
      lse_log2[s] = x == neg_inf<Acc>() ? -neg_inf<Acc>() : x * Acc(kLog2e);
      delta[s] = row < len ? static_cast<Acc>(d[row * delta_stride]) : Acc(0);
    }
  }
};

// Softmax and its gradient on one tile, in two steps, so that the product dp = do v^T can run between them:
//   probabilities   scores (Score::transform, masked) -> what multiplied v in the forward (dropout applied)
//   score_grad      dp -> gradient of attn_scale * q.k, of the score before the softcap
template <class T, bool Extras, class Tile>
class SoftmaxGrad {
 public:
  using Acc = typename Tile::Value;

  PA_DEVICE void probabilities(const Score<T, Extras>& score, const Dropout& dropout, const RowStats<Tile>& rows,
                               int lane, int32_t row0, int32_t col0, Tile& s) {
    const Acc exp_scale = score.exp_scale();
    keep_scale_ = static_cast<Acc>(dropout.keep_scale);
    drop_ = Extras && dropout.enabled();
    if constexpr (Extras) {
      weight_.fill(Acc(1));
      score.multiply_softcap_slope(s, weight_);
    }
    PA_UNROLL
    for (int r = 0; r < Tile::kRowSlots; ++r) {
      PA_UNROLL
      for (int c = 0; c < Tile::kColSlots; ++c) {
        const Acc p = fast_exp2(s.at(r, c) * exp_scale - rows.lse_log2[r]);
        s.at(r, c) = p;
        weight_.at(r, c) = Extras ? weight_.at(r, c) * p : p;
      }
    }
    if (!drop_) return;
    keep_.draw(dropout, lane, row0, col0);
    keep_.apply(s, keep_scale_);
  }

  PA_DEVICE void score_grad(const RowStats<Tile>& rows, Tile& dp) const {
    if (drop_) keep_.apply(dp, keep_scale_);
    PA_UNROLL
    for (int r = 0; r < Tile::kRowSlots; ++r) {
      PA_UNROLL
      for (int c = 0; c < Tile::kColSlots; ++c) dp.at(r, c) = weight_.at(r, c) * (dp.at(r, c) - rows.delta[r]);
    }
  }

 private:
  Tile weight_;  // p * d capped score / d score
  KeepMask<Tile> keep_;
  Acc keep_scale_;
  bool drop_;
};

// Both steps at once: s -> p, dp -> ds.
template <class T, bool Extras, class Tile>
PA_DEVICE void softmax_grad(const Score<T, Extras>& score, const Dropout& dropout, const RowStats<Tile>& rows, int lane,
                            int32_t row0, int32_t col0, Tile& s, Tile& dp) {
  SoftmaxGrad<T, Extras, Tile> grad;
  grad.probabilities(score, dropout, rows, lane, row0, col0, s);
  grad.score_grad(rows, dp);
}

}  // namespace portattn
