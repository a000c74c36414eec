// Generic forward pipeline, on any arch with the tile vocabulary: for one tile of queries
//   s [kBlockQ, kBlockKv] = q k^T;  p = online softmax(mask(score(s)));  o [kBlockQ, d_v] += p v
// walking key blocks from last to first, so that masked blocks come first. Loads of v overlap q k^T, loads of the next
// k overlap softmax and p v. Schedule after FlashAttention-2 (https://arxiv.org/abs/2307.08691).
#pragma once

#include "attn/dropout.cuh"
#include "attn/score.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/softmax.cuh"
#include "attn/visibility.cuh"
#include "fmha/problem.cuh"

namespace portattn {

// Everything about one query tile that all threads of its block share. It lives in shared memory, where it costs no
// registers: they belong to the accumulators.
template <class T, bool Extras>
struct FwdTile {
  const T* q;  // first row of the tile
  const T* k;  // first row of the sequence
  const T* v;
  int32_t row0;  // first query row in the sequence
  int32_t rows;  // valid query rows, >= 1
  BlockRange blocks;
  Visibility visible;
  Score<T, Extras> score;
  Dropout dropout;
};

template <class Problem>
class FwdGeneric {
 public:
  using T = typename Problem::Element;
  using Acc = typename Problem::Acc;
  using ScoreTile = typename Problem::ScoreTile;
  using OutTile = typename Problem::OutTile;
  using Softmax = OnlineSoftmax<ScoreTile>;

  PA_DEVICE FwdGeneric(const AttnParams& p, char* smem, int tid)
      : p_(p),
        tid_(tid),
        lane_(tid % Arch::kWarpSize),
        warp_row_(tid / Arch::kWarpSize * Problem::kWarpRows),
        q_(smem),
        k_(smem + Problem::kBytesQ),
        v_(smem + Problem::kBytesQ + Problem::SmemK::kBytes),
        p_tile_(smem + Problem::kOffsetP) {}

  // Accumulates o for the tile; leaves the block's tiles in shared memory free to use.
  PA_DEVICE void run(const FwdTile<T, Problem::kExtras>& tile, Softmax& softmax, OutTile& o) const {
    o.fill(Acc(0));
    int32_t n = tile.blocks.end - 1;
    if (n >= tile.blocks.begin) {
      load_tile_async<Problem::kThreads>(q_, tile.q, p_.q.token_stride, tile.rows, p_.head_dim_qk, tid_);
      load_block(k_, tile.k, p_.k.token_stride, n, tile.visible.seqlen_kv(), p_.head_dim_qk);
      copy_commit();
    }
#pragma unroll 1
    for (; n >= tile.blocks.begin; --n) {
      const AttnParams& p = reread(p_);
      copy_wait<0>();
      block_sync();  // k[n] (and q) have arrived for all; all are done with v[n + 1]
      load_block(v_, tile.v, p.v.token_stride, n, tile.visible.seqlen_kv(), p.head_dim_v);
      copy_commit();
      ScoreTile s;
      s.fill(Acc(0));
      mma_nt(s, q_, warp_row_, k_, 0, lane_);
      copy_wait<0>();
      block_sync();  // v[n] has arrived for all; all are done with k[n]
      if (n > tile.blocks.begin) {
        load_block(k_, tile.k, p.k.token_stride, n - 1, tile.visible.seqlen_kv(), p.head_dim_qk);
      }
      copy_commit();
      make_scores(tile, n, s);
      softmax.update(s, o);
      if (Problem::kExtras && tile.dropout.enabled()) {
        KeepMask<ScoreTile> keep;
        keep.draw(tile.dropout, lane_, tile.row0 + warp_row_, n * Problem::kBlockKv);
        keep.apply(s, Acc(1));  // the factor of kept elements is applied to o, once
      }
      mma_rn(o, s, p_tile_, warp_row_, v_, 0, lane_);
    }
    copy_wait<0>();
    block_sync();  // all are done with q, k and v
  }

 private:
  template <class Smem>
  PA_DEVICE void load_block(Smem smem, const T* base, int64_t stride, int32_t block, int32_t len, int32_t dim) const {
    const int32_t first = block * Problem::kBlockKv;
    load_tile_async<Problem::kThreads>(smem, base + first * stride, stride, len - first, dim, tid_);
  }

  PA_DEVICE void make_scores(const FwdTile<T, Problem::kExtras>& tile, int32_t n, ScoreTile& s) const {
    const int32_t row0 = tile.row0 + warp_row_, col0 = n * Problem::kBlockKv;
    tile.score.transform(s, lane_, row0, col0, tile.visible.seqlen_q(), tile.visible.seqlen_kv());
    if (tile.rows < Problem::kBlockQ || !tile.blocks.is_full(n)) mask_tile(s, lane_, tile.visible, row0, col0);
  }

  const AttnParams& p_;
  int tid_, lane_, warp_row_;
  typename Problem::SmemQ q_;
  typename Problem::SmemK k_;
  typename Problem::SmemV v_;
  typename Problem::SmemP p_tile_;  // where mma_rn stages it
};

}  // namespace portattn
