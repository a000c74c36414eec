// Fused backward kernel: dk and dv of one (key tile, kv head), summed over the query heads that share it, and dq by
// atomic adds into a float buffer unless the caller wants determinism (kernel_bwd_dq.cuh then computes it).
//   q, dq [t_q, h, d_qk], k, dk [t_kv, h_kv, d_qk], v, dv [t_kv, h_kv, d_v], do [t_q, h, d_v], lse, delta [t_q, h]
// Grid: x = key tiles over all sequences, y = kv heads.
#pragma once

#include <new>

#include "attn/work_tile.cuh"
#include "device/launch.cuh"
#include "fmha/pipeline/bwd_generic.cuh"

namespace portattn {

template <class ProblemType>
struct FmhaBwd {
  using Problem = ProblemType;
  using Params = AttnParams;
  using T = typename Problem::Element;
  using Acc = typename Problem::Acc;
  static constexpr int kThreads = Problem::kThreads;
  static constexpr int kMinBlocks = Problem::kMinBlocks;
  static constexpr int32_t kPlannedRows = Problem::kBlockKv;

  PA_DEVICE void operator()(const AttnParams& p, const BlockCtx& ctx) const {
    WorkTile work;
    if (!next_tile(p.kv_side, Problem::kBlockKv, ctx.x, false, work)) return;
    const SeqRows kv_rows = seq_rows(p.kv_side, p.batch, work.seq);
    const TileRows rows(kv_rows, work.block, Problem::kBlockKv);
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem + Problem::kTileBytes);
    if (ctx.tid == 0) {
      // By way of a local: a returned struct that is built in place goes to private memory on AMD, wherever its place
      // is.
      const auto tile = make_tile(p, work.seq, rows);
      new (&shared.tile) BwdTile(tile);
      shared.kv_rows = kv_rows;
      shared.rows = rows;
    }
    block_sync();  // thread 0 has described the tile; all read it from here on

    typename Problem::DkTile dk;
    typename Problem::DvTile dv;
    const int32_t group = p.num_heads_q / p.num_heads_kv;
    BwdGeneric<Problem>(p, shared.tile, shared.heads(), ctx.smem, ctx.tid)
        .run(row_pointer<const T>(p.k, work.seq, kv_rows, rows.first, ctx.y),
             row_pointer<const T>(p.v, work.seq, kv_rows, rows.first, ctx.y), ctx.y * group, group, dk, dv);
    store(p, shared, ctx, dk, dv);
  }

 private:
  using Head = BwdHead<T, Problem::kExtras>;
  struct Shared {
    BwdTile tile;
    SeqRows kv_rows;
    TileRows rows;
    alignas(Head) char head_storage[2 * sizeof(Head)];
    PA_DEVICE Head (&heads())[2] { return reinterpret_cast<Head(&)[2]>(head_storage); }
  };

  static PA_DEVICE BwdTile make_tile(const AttnParams& p, int32_t seq, const TileRows& rows) {
    const SeqRows q_rows = seq_rows(p.q_side, p.batch, seq);
    const Visibility visible(p, q_rows.len, seq_rows(p.kv_side, p.batch, seq).len);
    BwdTile tile{q_rows, visible, rows.first, rows.valid, 0, 0, 0, 0, seq};
    if (rows.valid == 0) return tile;
    const int32_t key_end = rows.first + rows.valid;
    tile.m_begin = first_row_reaching(visible, rows.first) / Problem::kBlockQ;
    tile.m_end = ceil_div(first_row_past(visible, key_end), Problem::kBlockQ);
    if (rows.valid == Problem::kBlockKv) {
      tile.full_rows_begin = first_row_reaching(visible, key_end - 1);
      tile.full_rows_end = first_row_past(visible, rows.first + 1);
    }
    return tile;
  }

  // Stages dk where k was and dv where v was, then writes both; padding rows of the slot become 0.
  static PA_DEVICE void store(const AttnParams& p, Shared& shared, const BlockCtx& ctx, typename Problem::DkTile& dk,
                              const typename Problem::DvTile& dv) {
    const int lane = ctx.tid % Arch::kWarpSize, warp = ctx.tid / Arch::kWarpSize;
    const typename Problem::SmemK staged_dk(ctx.smem);
    const typename Problem::SmemV staged_dv(ctx.smem + Problem::kOffsetV);
    const Acc scale = static_cast<Acc>(p.attn_scale);
    for_each(dk, lane, [&](Acc& x, int, int, int) { x *= scale; });
    const typename Problem::DkTiling at_dk(warp);
    const typename Problem::DvTiling at_dv(warp);
    store_acc(staged_dk, dk, at_dk.row, at_dk.col, lane);
    store_acc(staged_dv, dv, at_dv.row, at_dv.col, lane);
    block_sync();  // dk and dv are staged
    const TileRows& rows = shared.rows;
    const int32_t seq = shared.tile.seq, head = ctx.y;
    store_tile<kThreads>(row_pointer<T>(p.dk, seq, shared.kv_rows, rows.first, head), p.dk.token_stride, staged_dk,
                         rows.valid, rows.total, p.head_dim_qk, ctx.tid);
    store_tile<kThreads>(row_pointer<T>(p.dv, seq, shared.kv_rows, rows.first, head), p.dv.token_stride, staged_dv,
                         rows.valid, rows.total, p.head_dim_v, ctx.tid);
  }

 public:
  static constexpr int kSmemBytes = Problem::kTileBytes + static_cast<int>(sizeof(Shared));
  static_assert(kSmemBytes <= Arch::kMaxSmemBytes, "a block has that much shared memory");
};

template <class Kernel>
int launch_fmha_bwd(const AttnParams& p, void* stream) {
  const Grid grid{num_tile_blocks(p.kv_side, p.batch, Kernel::Problem::kBlockKv), p.num_heads_kv};
  return launch<Kernel>(p, grid, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
