// Generic backward pipeline, on any arch with the tile vocabulary: for one tile of keys, over (query head, query tile)
//   s = q k^T;  p = exp2(score(s) - lse);  dp = do v^T;  ds = p (dp - delta) [softcap slope]
//   dv += p^T do;  dk += ds^T q;  dq += ds k (atomically, or left to kernel_bwd_dq when deterministic)
// p and ds pass through shared memory, because dk and dv need them transposed. After FlashAttention-2
// (https://arxiv.org/abs/2307.08691, section 3.2).
#pragma once

#include <new>

#include "attn/grad.cuh"
#include "attn/score.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/visibility.cuh"
#include "fmha/problem.cuh"

namespace portattn {

// What the block's threads share about the key tile and the sequence; in shared memory, to spare registers.
struct BwdTile {
  SeqRows q_rows;
  Visibility visible;
  int32_t col0;                            // first key in the sequence
  int32_t cols;                            // valid keys, >= 1
  int32_t m_begin, m_end;                  // query tiles that see any of them
  int32_t full_rows_begin, full_rows_end;  // rows in this range see all of them
  int32_t seq;
};

// What they share about one query head.
template <class T, bool Extras>
struct BwdHead {
  const T* q;  // first row of the sequence
  const T* d_o;
  const float* lse;
  const float* delta;
  float* dq_accum;  // null: dq is not wanted here
  Score<T, Extras> score;
  Dropout dropout;
};

template <class Problem>
class BwdGeneric {
 public:
  using T = typename Problem::Element;
  using Acc = typename Problem::Acc;
  using ScoreTile = typename Problem::ScoreTile;
  using Head = BwdHead<T, Problem::kExtras>;

  PA_DEVICE BwdGeneric(const AttnParams& p, const BwdTile& tile, Head (&heads)[2], char* smem, int tid)
      : p_(p),
        tile_(tile),
        heads_(heads),
        smem_(smem),
        tid_(tid),
        lane_(tid % Arch::kWarpSize),
        warp_(tid / Arch::kWarpSize),
        k_(smem),
        v_(smem + Problem::kOffsetV),
        p_tile_(smem + Problem::kOffsetP),
        ds_(smem + Problem::kOffsetDs) {}

  // Accumulates dk and dv over `num_heads` query heads from `head0` on; leaves the tiles in shared memory free to use.
  PA_DEVICE void run(const T* k, const T* v, int32_t head0, int32_t num_heads, typename Problem::DkTile& dk,
                     typename Problem::DvTile& dv) const {
    dk.fill(Acc(0));
    dv.fill(Acc(0));
    if (tile_.m_begin >= tile_.m_end) return;
    describe_head(head0, 0);
    block_sync();  // the first head is described
    load_tile_async<Problem::kThreads>(k_, k, p_.k.token_stride, tile_.cols, p_.head_dim_qk, tid_);
    load_tile_async<Problem::kThreads>(v_, v, p_.v.token_stride, tile_.cols, p_.head_dim_v, tid_);
    load_stage(heads_[0], tile_.m_begin, 0);
    int32_t head = 0, m = tile_.m_begin, stage = 0;
#pragma unroll 1
    for (;;) {
      const bool head_ends = m + 1 == tile_.m_end;
      const bool last = head_ends && head + 1 == num_heads;
      const int32_t next_head = head + head_ends, next_m = head_ends ? tile_.m_begin : m + 1;
      copy_wait<0>();
      block_sync();  // this stage has arrived for all; all are done with p, ds and the other stage
      if (head_ends && !last) describe_head(head0 + next_head, next_head % 2);
      make_p_and_ds(heads_[head % 2], m, stage);
      block_sync();  // p and ds are complete; the next head is described
      if (Problem::kStages == 2 && !last) load_stage(heads_[next_head % 2], next_m, stage ^ 1);
      accumulate(heads_[head % 2], m, stage, dk, dv);
      if (last) break;
      if (Problem::kStages == 1) {
        block_sync();  // all are done with the only stage
        load_stage(heads_[next_head % 2], next_m, 0);
      } else {
        stage ^= 1;
      }
      head = next_head;
      m = next_m;
    }
    block_sync();  // all are done with the tiles
  }

 private:
  struct Stage {
    typename Problem::SmemQ q;
    typename Problem::SmemDo d_o;
    float *lse, *delta;  // [kBlockQ]
    PA_DEVICE explicit Stage(char* smem)
        : q(smem),
          d_o(smem + Problem::kStageOffsetDo),
          lse(reinterpret_cast<float*>(smem + Problem::kStageOffsetStats)),
          delta(lse + Problem::kBlockQ) {}
  };
  PA_DEVICE Stage stage_at(int32_t stage) const {
    return Stage(smem_ + Problem::kOffsetStages + stage * Problem::kStageBytes);
  }

  PA_DEVICE void describe_head(int32_t head, int32_t slot) const {
    if (tid_ != 0) return;
    const AttnParams& p = reread(p_);
    const SeqRows& rows = tile_.q_rows;
    new (&heads_[slot]) Head{row_pointer<const T>(p.q, tile_.seq, rows, 0, head),
                             row_pointer<const T>(p.d_o, tile_.seq, rows, 0, head),
                             row_pointer<const float>(p.lse, tile_.seq, rows, 0, head),
                             row_pointer<const float>(p.delta, tile_.seq, rows, 0, head),
                             p.dq_accum.data == nullptr ? nullptr : dq_scratch(p, tile_.seq, rows, head),
                             Score<T, Problem::kExtras>(p, tile_.seq, head, tile_.visible.offset()),
                             make_dropout(p, tile_.seq, head)};
  }

  PA_DEVICE void load_stage(const Head& head, int32_t m, int32_t stage) const {
    const AttnParams& p = reread(p_);
    const Stage to = stage_at(stage);
    const int32_t row0 = m * Problem::kBlockQ, rows = tile_.q_rows.len - row0;
    load_tile_async<Problem::kThreads>(to.q, head.q + row0 * p.q.token_stride, p.q.token_stride, rows, p.head_dim_qk,
                                       tid_);
    load_tile_async<Problem::kThreads>(to.d_o, head.d_o + row0 * p.d_o.token_stride, p.d_o.token_stride, rows,
                                       p.head_dim_v, tid_);
    load_vector_async<Problem::kThreads, Problem::kBlockQ>(to.lse, head.lse + row0 * p.lse.token_stride,
                                                           p.lse.token_stride, rows, tid_);
    load_vector_async<Problem::kThreads, Problem::kBlockQ>(to.delta, head.delta + row0 * p.delta.token_stride,
                                                           p.delta.token_stride, rows, tid_);
    copy_commit();
  }

  PA_DEVICE void make_p_and_ds(const Head& head, int32_t m, int32_t stage) const {
    const Stage in = stage_at(stage);
    const typename Problem::ScoreTiling at(warp_);
    const int32_t first = m * Problem::kBlockQ, row0 = first + at.row, col0 = tile_.col0 + at.col;
    ScoreTile s;
    s.fill(Acc(0));
    mma_nt(s, in.q, at.row, k_, at.col, lane_);
    head.score.transform(s, lane_, row0, col0, tile_.visible.seqlen_q(), tile_.visible.seqlen_kv());
    if (first < tile_.full_rows_begin || first + Problem::kBlockQ > tile_.full_rows_end) {
      mask_tile(s, lane_, tile_.visible, row0, col0);
    }
    ScoreTile dp;
    const auto delta = row_delta<ScoreTile>(in.delta, 1, at.row, Problem::kBlockQ, lane_);
    start_dp<Problem::kExtras>(dp, delta, lane_);
    mma_nt(dp, in.d_o, at.row, v_, at.col, lane_);
    // Opaque, so that lse is read after the product and not kept in registers through it.
    const auto lse_log2 = row_lse_log2<ScoreTile>(opaque(in.lse), 1, at.row, Problem::kBlockQ, lane_);
    softmax_grad(head.score, head.dropout, lse_log2, delta, lane_, row0, col0, s, dp);
    store_acc(p_tile_, s, at.row, at.col, lane_);
    store_acc(ds_, dp, at.row, at.col, lane_);
  }

  PA_DEVICE void accumulate(const Head& head, int32_t m, int32_t stage, typename Problem::DkTile& dk,
                            typename Problem::DvTile& dv) const {
    const Stage in = stage_at(stage);
    const typename Problem::DvTiling at_dv(warp_);
    mma_tn(dv, p_tile_, at_dv.row, in.d_o, at_dv.col, lane_);
    const typename Problem::DkTiling at_dk(warp_);
    mma_tn(dk, ds_, at_dk.row, in.q, at_dk.col, lane_);
    if (head.dq_accum != nullptr) add_dq(head, m);
  }

  PA_DEVICE void add_dq(const Head& head, int32_t m) const {
    const AttnParams& p = reread(p_);
    const typename Problem::DqTiling at(warp_);
    typename Problem::DqTile dq;
    dq.fill(Acc(0));
    mma_nn(dq, ds_, at.row, k_, at.col, lane_);
    const Acc scale = head.score.scale();
    for_each(dq, lane_, [&](Acc& x, int, int, int) { x *= scale; });
    const int32_t row0 = m * Problem::kBlockQ;
    const int64_t step = dq_scratch_step(p);
    add_to_scratch(head.dq_accum + row0 / DqScratch::kRows * step, step, dq, at.row, at.col, tile_.q_rows.len - row0,
                   p.head_dim_qk, lane_);
  }

  const AttnParams& p_;
  const BwdTile& tile_;
  Head (&heads_)[2];
  char* smem_;
  int tid_, lane_, warp_;
  typename Problem::SmemK k_;
  typename Problem::SmemV v_;
  typename Problem::SmemP p_tile_, ds_;
};

}  // namespace portattn
