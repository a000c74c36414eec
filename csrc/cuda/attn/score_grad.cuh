// One 64 x 64 block of a backward's scores, recomputed from q, k, v, do and lse:
//   p  = exp(score(q k^T) - lse) (with dropout),   ds = the gradient of scale * q k^T (+ bias): attn/grad.cuh
//
// lse and delta are float for every dtype: float64 gradients are good to the rounding of lse, about 1e-7 relative.
#pragma once

#include "attn/block_product.cuh"
#include "attn/grad.cuh"
#include "attn/head.cuh"

namespace portattn {

// Can the tensors that the recomputation reads be copied wide? See tile/copy_any.cuh.
template <class T>
bool score_grad_has_wide_rows(const AttnParams& p) {
  return has_wide_rows(p.q, p.head_dim_qk, sizeof(T)) && has_wide_rows(p.k, p.head_dim_qk, sizeof(T)) &&
         has_wide_rows(p.v, p.head_dim_v, sizeof(T)) && has_wide_rows(p.d_o, p.head_dim_v, sizeof(T));
}

template <class T, int WarpsM, int WarpsN>
class ScoreGrad {
 public:
  using Acc = AccOf<T>;
  static constexpr int kThreads = WarpsM * WarpsN * Arch::kWarpSize;
  using Tiling = WarpTiling<kProductRows, kProductRows, WarpsM, WarpsN>;
  using Tile = AccTile<Acc, Tiling::kM, Tiling::kN>;
  using Product = BlockProduct<T, kThreads>;

  PA_DEVICE ScoreGrad(const AttnParams& p, bool wide, const AttnGradHead<T>& head, char* smem, int tid)
      : p_(p), head_(head), product_(smem, wide, tid), lane_(tid % Arch::kWarpSize), tiling_(tid / Arch::kWarpSize) {}

  // Queries from q0, keys from kv0; tail() as in BlockProduct.
  template <class Tail>
  PA_DEVICE void run(int32_t q0, int32_t kv0, Tile& p, Tile& ds, Tail tail) const {
    const int32_t seqlen_q = head_.visible.seqlen_q(), seqlen_kv = head_.visible.seqlen_kv();
    ds.fill(Acc(0));
    product_.add(ds, row_block(head_.d_o, p_.d_o, q0, seqlen_q), row_block(head_.v, p_.v, kv0, seqlen_kv),
                 p_.head_dim_v, tiling_.row, tiling_.col, [] {});
    p.fill(Acc(0));
    product_.add(p, row_block(head_.q, p_.q, q0, seqlen_q), row_block(head_.k, p_.k, kv0, seqlen_kv), p_.head_dim_qk,
                 tiling_.row, tiling_.col, tail);
    const int32_t row0 = q0 + tiling_.row, col0 = kv0 + tiling_.col;
    head_.score.transform(p, lane_, row0, col0, seqlen_q, seqlen_kv);
    mask_tile(p, lane_, head_.visible, row0, col0);
    const auto lse_log2 = row_lse_log2<Tile>(head_.lse, p_.lse.token_stride, row0, seqlen_q, lane_);
    const auto delta = row_delta<Tile>(head_.delta, p_.delta.token_stride, row0, seqlen_q, lane_);
    softmax_grad(head_.score, head_.dropout, lse_log2, delta, lane_, row0, col0, p, ds);
  }

 private:
  const AttnParams& p_;
  const AttnGradHead<T>& head_;
  Product product_;
  int lane_;
  Tiling tiling_;
};

}  // namespace portattn
