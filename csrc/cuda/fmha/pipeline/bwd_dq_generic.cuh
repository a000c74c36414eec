// Deterministic dq: for one tile of queries, over key blocks in order
//   s = q k^T;  p = exp2(score(s) - lse);  dp = do v^T;  ds = p (dp - delta);  dq += ds k
// Warps own whole rows, so ds goes from registers straight into the last product. It repeats two of the products of
// bwd_generic: the price of a fixed order of additions without scratch memory.
#pragma once

#include "attn/grad.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/visibility.cuh"
#include "fmha/problem.cuh"

namespace portattn {

// What the block's threads share; in shared memory, to spare registers.
template <class T, bool Extras>
struct DqTile {
  const T* q;  // first row of the tile
  const T* d_o;
  const T* k;  // first row of the sequence
  const T* v;
  const float* lse;  // first row of the sequence
  const float* delta;
  int32_t row0;  // first query row in the sequence
  int32_t rows;  // valid query rows, >= 1
  BlockRange blocks;
  Visibility visible;
  Score<T, Extras> score;
  Dropout dropout;
};

template <class Problem>
class BwdDqGeneric {
 public:
  using T = typename Problem::Element;
  using Acc = typename Problem::Acc;
  using ScoreTile = typename Problem::ScoreTile;

  PA_DEVICE BwdDqGeneric(const AttnParams& p, const DqTile<T, Problem::kExtras>& tile, char* smem, int tid)
      : p_(p),
        tile_(tile),
        tid_(tid),
        lane_(tid % Arch::kWarpSize),
        warp_row_(tid / Arch::kWarpSize * Problem::kWarpRows),
        q_(smem),
        do_(smem + Problem::SmemQ::kBytes),
        k_(smem + Problem::SmemQ::kBytes + Problem::SmemDo::kBytes),
        v_(smem + Problem::SmemQ::kBytes + Problem::SmemDo::kBytes + Problem::SmemK::kBytes),
        ds_(smem + Problem::kOffsetP) {}

  // Accumulates dq, scaled; leaves the tiles in shared memory free to use.
  PA_DEVICE void run(typename Problem::DqAcc& dq) const {
    dq.fill(Acc(0));
    const int32_t first_row = tile_.row0 + warp_row_, len = tile_.visible.seqlen_q();
    const auto lse_log2 = row_lse_log2<ScoreTile>(tile_.lse, p_.lse.token_stride, first_row, len, lane_);
    const auto delta = row_delta<ScoreTile>(tile_.delta, p_.delta.token_stride, first_row, len, lane_);
    load_tile_async<Problem::kThreads>(q_, tile_.q, p_.q.token_stride, tile_.rows, p_.head_dim_qk, tid_);
    load_tile_async<Problem::kThreads>(do_, tile_.d_o, p_.d_o.token_stride, tile_.rows, p_.head_dim_v, tid_);
    copy_commit();  // also for a tile that sees no key: dq is staged where q lands
#pragma unroll 1
    for (int32_t n = tile_.blocks.begin; n < tile_.blocks.end; ++n) {
      const AttnParams& p = reread(p_);
      load_block(k_, tile_.k, p.k.token_stride, n, p.head_dim_qk);
      load_block(v_, tile_.v, p.v.token_stride, n, p.head_dim_v);
      copy_commit();
      copy_wait<0>();
      block_sync();  // k[n], v[n] (and q, do) have arrived for all
      ScoreTile s;
      s.fill(Acc(0));
      mma_nt(s, q_, warp_row_, k_, 0, lane_);
      const int32_t row0 = tile_.row0 + warp_row_, col0 = n * Problem::kBlockKv;
      tile_.score.transform(s, lane_, row0, col0, tile_.visible.seqlen_q(), tile_.visible.seqlen_kv());
      if (tile_.rows < Problem::kBlockQ || !tile_.blocks.is_full(n)) mask_tile(s, lane_, tile_.visible, row0, col0);
      ScoreTile dp;
      start_dp<Problem::kExtras>(dp, delta, lane_);
      mma_nt(dp, do_, warp_row_, v_, 0, lane_);
      softmax_grad(tile_.score, tile_.dropout, lse_log2, delta, lane_, row0, col0, s, dp);
      mma_rn(dq, dp, ds_, warp_row_, k_, 0, lane_);
      block_sync();  // all are done with k[n] and v[n]
    }
    copy_wait<0>();
    block_sync();  // all are done with q and do
    const Acc scale = tile_.score.scale();
    for_each(dq, lane_, [&](Acc& x, int, int, int) { x *= scale; });
  }

 private:
  template <class Smem>
  PA_DEVICE void load_block(Smem smem, const T* base, int64_t stride, int32_t block, int32_t dim) const {
    const int32_t first = block * Problem::kBlockKv;
    load_tile_async<Problem::kThreads>(smem, base + first * stride, stride, tile_.visible.seqlen_kv() - first, dim,
                                       tid_);
  }

  const AttnParams& p_;
  const DqTile<T, Problem::kExtras>& tile_;
  int tid_, lane_, warp_row_;
  typename Problem::SmemQ q_;
  typename Problem::SmemDo do_;
  typename Problem::SmemK k_;
  typename Problem::SmemV v_;
  typename Problem::SmemP ds_;  // where mma_rn stages it
};

}  // namespace portattn
