// One 64 x 64 block of a backward's scores, recomputed from q, k, v, do and lse:
//   p  = exp(score(q k^T) - lse) * keep,   dp = (do v^T) * keep,   ds = p (dp - delta) * (1 - tanh^2 of the softcap)
// where keep is 0 or 1 / (1 - dropout), p without it in ds. ds is the gradient of scale * q k^T (+ bias).
//
// lse and delta are float for every dtype: float64 gradients are good to the rounding of lse, about 1e-7 relative.
#pragma once

#include "attn/block_product.cuh"
#include "attn/dropout.cuh"
#include "attn/score.cuh"
#include "attn/visibility.cuh"

namespace portattn {

// Tensors that the recomputation reads; `wide` as in tile/copy_any.cuh.
template <class T>
bool score_grad_has_wide_rows(const AttnParams& p) {
  return has_wide_rows(p.q, p.head_dim_qk, sizeof(T)) && has_wide_rows(p.k, p.head_dim_qk, sizeof(T)) &&
         has_wide_rows(p.v, p.head_dim_v, sizeof(T)) && has_wide_rows(p.d_o, p.head_dim_v, sizeof(T));
}

// The blocks of one (sequence, query head).
template <class T, int WarpsM, int WarpsN>
class ScoreGrad {
 public:
  using Acc = AccOf<T>;
  static constexpr int kThreads = WarpsM * WarpsN * Arch::kWarpSize;
  using Tiling = WarpTiling<kProductRows, kProductRows, WarpsM, WarpsN>;
  using Tile = AccTile<Acc, Tiling::kM, Tiling::kN>;
  using Product = BlockProduct<T, kThreads>;

  PA_DEVICE ScoreGrad(const AttnParams& p, int32_t seq, int32_t head, const SeqRows& q_rows, const SeqRows& kv_rows,
                      const Product& product, int tid)
      : p_(p), seq_(seq), head_(head), head_kv_(head / (p.num_heads_q / p.num_heads_kv)), q_rows_(q_rows),
        kv_rows_(kv_rows), product_(product), lane_(tid % Arch::kWarpSize), tiling_(tid / Arch::kWarpSize),
        visible_(p, q_rows.len, kv_rows.len), score_(p, seq, head, visible_.offset()),
        dropout_(make_dropout(p, seq, head)) {}

  PA_DEVICE const Visibility& visible() const { return visible_; }

  // Queries from q0, keys from kv0; tail() as in BlockProduct.
  template <class Tail>
  PA_DEVICE void run(int32_t q0, int32_t kv0, Tile& p, Tile& ds, Tail tail) const {
    ds.fill(Acc(0));
    product_.add(ds, row_block<T>(p_.d_o, seq_, q_rows_, q0, head_), row_block<T>(p_.v, seq_, kv_rows_, kv0, head_kv_),
                 p_.head_dim_v, tiling_.row, tiling_.col, [] {});
    p.fill(Acc(0));
    product_.add(p, row_block<T>(p_.q, seq_, q_rows_, q0, head_), row_block<T>(p_.k, seq_, kv_rows_, kv0, head_kv_),
                 p_.head_dim_qk, tiling_.row, tiling_.col, tail);
    const int32_t row0 = q0 + tiling_.row, col0 = kv0 + tiling_.col;
    score_.transform(p, lane_, row0, col0, visible_.seqlen_q(), visible_.seqlen_kv());
    mask_tile(p, lane_, visible_, row0, col0);
    Tile keep;
    keep.fill(static_cast<Acc>(dropout_.keep_scale));
    if (dropout_.enabled()) drop_tile(keep, lane_, dropout_, row0, col0);
    finish(p, ds, keep, row0);
  }

 private:
  // Scores and dp -> p and ds, in place.
  PA_DEVICE void finish(Tile& p, Tile& ds, const Tile& keep, int32_t row0) const {
    PA_UNROLL
    for (int s = 0; s < Tile::kRowSlots; ++s) {
      const int32_t row = row0 + Tile::Layout::row(lane_, s);
      const bool inside = row < q_rows_.len;
      const float lse = inside ? *row_pointer<const float>(p_.lse, seq_, q_rows_, row, head_) : neg_inf<float>();
      const Acc delta = inside ? *row_pointer<const float>(p_.delta, seq_, q_rows_, row, head_) : 0.f;
      // A row that saw no key has lse = -inf and p = 0.
      const Acc shift = lse == neg_inf<float>() ? -neg_inf<Acc>() : static_cast<Acc>(lse) * static_cast<Acc>(kLog2e);
      PA_UNROLL
      for (int c = 0; c < Tile::kColSlots; ++c) {
        const Acc x = p.at(s, c);
        const Acc prob = fast_exp2(x * score_.exp_scale() - shift);
        Acc grad = prob * (ds.at(s, c) * keep.at(s, c) - delta);
        if (score_.has_softcap() && prob != Acc(0)) grad *= score_.softcap_slope(x);
        p.at(s, c) = prob * keep.at(s, c);
        ds.at(s, c) = grad;
      }
    }
  }

  const AttnParams& p_;
  int32_t seq_, head_, head_kv_;
  SeqRows q_rows_, kv_rows_;
  Product product_;
  int lane_;
  Tiling tiling_;
  Visibility visible_;
  Score<T> score_;
  Dropout dropout_;
};

}  // namespace portattn
