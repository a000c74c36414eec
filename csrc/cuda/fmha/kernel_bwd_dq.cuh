// Fused deterministic dq kernel: one (query tile, head), no atomics, rows of padding written 0.
// Grid: x = query tiles over all sequences, y = query heads.
#pragma once

#include <new>

#include "attn/work_tile.cuh"
#include "device/launch.cuh"
#include "fmha/pipeline/bwd_dq_generic.cuh"

namespace portattn {

template <class ProblemType>
struct FmhaBwdDq {
  using Problem = ProblemType;
  using Params = AttnParams;
  using T = typename Problem::Element;
  static constexpr int kThreads = Problem::kThreads;
  static constexpr int kMinBlocks = Problem::kMinBlocks;
  static constexpr int32_t kPlannedRows = Problem::kBlockQ;

  PA_DEVICE void operator()(const AttnParams& p, const BlockCtx& ctx) const {
    WorkTile work;
    const bool longest_last = p.window_right >= 0;
    if (!next_tile(p.q_side, Problem::kBlockQ, ctx.x, longest_last, work)) return;
    const int32_t head = ctx.y;
    const SeqRows q_rows = seq_rows(p.q_side, p.batch, work.seq);
    const TileRows rows(q_rows, work.block, Problem::kBlockQ);
    const typename Problem::SmemQ staging(ctx.smem);
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem + Problem::kTileBytes);
    if (ctx.tid == 0) describe(p, work.seq, head, q_rows, rows, shared);
    block_sync();  // thread 0 has described the tile; all read it from here on
    if (shared.rows.valid > 0) {
      typename Problem::DqAcc dq;
      BwdDqGeneric<Problem>(p, shared.tile, ctx.smem, ctx.tid).run(dq);
      store_acc(staging, dq, ctx.tid / Arch::kWarpSize * Problem::kWarpRows, 0, ctx.tid % Arch::kWarpSize);
      block_sync();  // dq is staged
    }
    store_tile<kThreads>(shared.dq, p.dq.token_stride, staging, shared.rows.valid, shared.rows.total, p.head_dim_qk,
                         ctx.tid);
  }

 private:
  struct Shared {
    DqTile<T, Problem::kExtras> tile;
    TileRows rows;
    T* dq;
  };

  static PA_DEVICE void describe(const AttnParams& p, int32_t seq, int32_t head, const SeqRows& q_rows,
                                 const TileRows& rows, Shared& shared) {
    const int32_t head_kv = head / (p.num_heads_q / p.num_heads_kv);
    const SeqRows kv_rows = seq_rows(p.kv_side, p.batch, seq);
    const Visibility visible(p, q_rows.len, kv_rows.len);
    new (&shared.tile) DqTile<T, Problem::kExtras>{
        row_pointer<const T>(p.q, seq, q_rows, rows.first, head),
        row_pointer<const T>(p.d_o, seq, q_rows, rows.first, head),
        row_pointer<const T>(p.k, seq, kv_rows, 0, head_kv),
        row_pointer<const T>(p.v, seq, kv_rows, 0, head_kv),
        row_pointer<const float>(p.lse, seq, q_rows, 0, head),
        row_pointer<const float>(p.delta, seq, q_rows, 0, head),
        rows.first,
        rows.valid,
        rows.valid > 0 ? key_blocks(visible, rows.first, rows.valid, Problem::kBlockKv) : BlockRange{},
        visible,
        Score<T, Problem::kExtras>(p, seq, head, visible.offset()),
        make_dropout(p, seq, head)};
    shared.rows = rows;
    shared.dq = row_pointer<T>(p.dq, seq, q_rows, rows.first, head);
  }

 public:
  static constexpr int kSmemBytes = Problem::kTileBytes + static_cast<int>(sizeof(Shared));
  static_assert(kSmemBytes <= Arch::kMaxSmemBytes, "a block has that much shared memory");
};

template <class Kernel>
int launch_fmha_bwd_dq(const AttnParams& p, void* stream) {
  const Grid grid{num_tile_blocks(p.q_side, p.batch, Kernel::Problem::kBlockQ), p.num_heads_q};
  return launch<Kernel>(p, grid, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
