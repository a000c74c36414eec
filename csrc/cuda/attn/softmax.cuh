// Online softmax in base 2 (Milakov and Gimelshein, "Online normalizer calculation for softmax",
// https://arxiv.org/abs/1805.02867; as used by FlashAttention, https://arxiv.org/abs/2205.14135).
// For each row: m reference score, l running sum of exp2(scale * (s - m)). The reference follows the running maximum
// only when that has grown by more than kSlack: rescaling o is then rare, and as o, l and lse share one reference
// nothing is lost (after FlashAttention-4, https://github.com/Dao-AILab/flash-attention).
#pragma once

#include "device/math.cuh"
#include "tile/reg_tile.cuh"

namespace portattn {

template <class ScoreTile>
class OnlineSoftmax {
 public:
  using Acc = typename ScoreTile::Value;

  PA_DEVICE explicit OnlineSoftmax(Acc exp_scale) : scale_(exp_scale) {
    ref_.fill(neg_inf<Acc>());
    sum_.fill(Acc(0));
  }

  // Scores -> unnormalised probabilities, in place; o moves to the new reference. A row that has seen no key keeps
  // m = -inf and uses 0 in its place, so that nothing becomes NaN.
  template <class OutTile>
  PA_DEVICE void update(ScoreTile& s, OutTile& o) {
    static_assert(ScoreTile::kRowSlots == OutTile::kRowSlots, "scores and outputs share rows");
    follow(s, [&](int r, Acc factor) { scale_row(o, r, factor); });
    exponentiate(s);
  }

  // The same in steps, for pipelines whose products into o are still in flight: follow(), exponentiate(), and
  // scale_rows() of o, where follow() said so, before anything more is added to it.
  PA_DEVICE bool follow(const ScoreTile& s, RowValues<ScoreTile>& rescale) {
    return follow(s, [&](int r, Acc factor) { rescale[r] = factor; });
  }

  PA_DEVICE void exponentiate(ScoreTile& s) {
    PA_UNROLL
    for (int r = 0; r < ScoreTile::kRowSlots; ++r) {
      const Acc shift = shift_of(ref_[r]);
      PA_UNROLL
      for (int c = 0; c < ScoreTile::kColSlots; ++c) {
        const Acc p = fast_exp2(s.at(r, c) * scale_ - shift);
        s.at(r, c) = p;
        sum_[r] += p;
      }
    }
  }

  template <class OutTile>
  static PA_DEVICE void scale_rows(OutTile& o, const RowValues<ScoreTile>& factors) {
    PA_UNROLL
    for (int r = 0; r < ScoreTile::kRowSlots; ++r) scale_row(o, r, factors[r]);
  }

  // Normalises o and gives the natural log-sum-exp of each row. `sink` is a score in natural units that takes part in
  // the sum and has no value. A row that saw no key and has no sink: o = 0, lse = -inf.
  template <class OutTile>
  PA_DEVICE void finish(OutTile& o, RowValues<ScoreTile>& lse, bool has_sink, Acc sink, Acc value_scale) {
    row_allsum(sum_);
    PA_UNROLL
    for (int r = 0; r < ScoreTile::kRowSlots; ++r) {
      Acc m = ref_[r] == neg_inf<Acc>() ? neg_inf<Acc>() : ref_[r] * scale_;
      Acc l = sum_[r], rescale = value_scale;
      if (has_sink) {
        const Acc sink_log2 = sink * Acc(kLog2e);
        const Acc top = max_acc(m, sink_log2);
        const Acc shift = top == neg_inf<Acc>() ? Acc(0) : top;
        const Acc down = fast_exp2(m - shift);
        l = l * down + fast_exp2(sink_log2 - shift);
        rescale *= down;
        m = shift;
      }
      const Acc inverse = l > Acc(0) ? rescale / l : Acc(0);
      lse[r] = l > Acc(0) ? (m + log2_acc(l)) * Acc(kLn2) : neg_inf<Acc>();
      PA_UNROLL
      for (int c = 0; c < OutTile::kColSlots; ++c) o.at(r, c) *= inverse;
    }
  }

 private:
  static constexpr Acc kSlack = Acc(8);  // in powers of two: probabilities stay below 256

  PA_DEVICE Acc shift_of(Acc ref) const { return ref == neg_inf<Acc>() ? Acc(0) : ref * scale_; }

  template <class OutTile>
  static PA_DEVICE void scale_row(OutTile& o, int r, Acc factor) {
    PA_UNROLL
    for (int c = 0; c < OutTile::kColSlots; ++c) o.at(r, c) *= factor;
  }

  // Moves the references to the maxima if any has grown too far: rescale(row slot, factor) for what was summed before.
  template <class Rescale>
  PA_DEVICE bool follow(const ScoreTile& s, Rescale rescale) {
    RowValues<ScoreTile> tile_max;
    row_max(s, tile_max);
    bool grown = false;
    PA_UNROLL
    for (int r = 0; r < ScoreTile::kRowSlots; ++r) grown |= tile_max[r] * scale_ > ref_[r] * scale_ + kSlack;
    const bool moves = warp_any(grown);
    if (!moves) return false;
    PA_UNROLL
    for (int r = 0; r < ScoreTile::kRowSlots; ++r) {
      const Acc ref = max_acc(ref_[r], tile_max[r]);
      const Acc factor = fast_exp2(ref_[r] * scale_ - shift_of(ref));
      ref_[r] = ref;
      sum_[r] *= factor;
      rescale(r, factor);
    }
    return true;
  }

  Acc scale_;
  RowValues<ScoreTile> ref_, sum_;
};

}  // namespace portattn
