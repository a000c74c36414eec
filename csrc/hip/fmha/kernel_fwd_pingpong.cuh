// Fused forward kernel of gfx942 for head dims of one size (pipeline/gfx942_fwd_pingpong.cuh): one (256 queries, head).
//   q [t_q, h, d], k [t_kv, h_kv, d], v [t_kv, h_kv, d] -> o [t_q, h, d], lse [t_q, h]
// Grid: x = query tiles over all sequences, y = query heads.
#pragma once

#include "attn/work_tile.cuh"
#include "fmha/die_order.cuh"
#include "fmha/pipeline/gfx942_fwd_pingpong.cuh"
#include "tile/arch_select.cuh"

namespace portattn {

template <class T, int HeadDim>
struct FmhaFwdPingpong {
  using Params = AttnParams;
  using Pipeline = gfx942::FwdPingpong<T, HeadDim>;
  static constexpr int kThreads = Pipeline::kWarps * kWarpSize;
  static constexpr int kMinBlocks = 1;
  static constexpr int32_t kPlannedRows = Pipeline::kBlockQ;
  static constexpr int kSmemBytes = Pipeline::kSmemBytes;
  static_assert(kSmemBytes <= Arch::kMaxSmemBytes, "a block has that much shared memory");
  static_assert(Pipeline::kWarps * gfx942::kStoreBytes <= kSmemBytes, "o is staged where k and v were");

  PA_DEVICE void operator()(const AttnParams& p, const BlockCtx& grid_ctx) const {
    const BlockCtx ctx = gfx942::by_die(grid_ctx, p.num_heads_q);
    WorkTile work;
    if (!next_tile(p.q_side, kPlannedRows, ctx.x, p.window_right >= 0, work)) return;
    work = gfx942::uniform(work);
    const int32_t head = ctx.y;
    const SeqRows q_rows = gfx942::uniform(seq_rows(p.q_side, p.batch, work.seq));
    const TileRows rows(q_rows, work.block, Pipeline::kBlockQ);
    typename Pipeline::OutTile o;
    if (rows.valid == 0) {
      o.fill(0.f);
      return store(p, ctx, work.seq, head, q_rows, rows, o, neg_inf<float>());
    }
    const SeqRows kv_rows = gfx942::uniform(seq_rows(p.kv_side, p.batch, work.seq));
    OnlineSoftmax<typename Pipeline::ScoreTile> softmax(p.attn_scale * static_cast<float>(kLog2e));
    Pipeline(p, make_tile(p, work.seq, head, q_rows, rows, kv_rows), ctx.smem, ctx.tid).run(softmax, o);

    RowValues<typename Pipeline::ScoreTile> lse;
    const float sink = p.softmax_offset != nullptr ? p.softmax_offset[head] : 0.f;
    softmax.finish(o, lse, p.has_sink, sink, 1.f);
    store(p, ctx, work.seq, head, q_rows, rows, o, lse[0]);
  }

 private:
  static PA_DEVICE gfx942::FwdStripTile<T> make_tile(const AttnParams& p, int32_t seq, int32_t head,
                                                     const SeqRows& q_rows, const TileRows& rows,
                                                     const SeqRows& kv_rows) {
    const int32_t head_kv = head / (p.num_heads_q / p.num_heads_kv);
    const Visibility visible(p, q_rows.len, kv_rows.len);
    return {row_pointer<const T>(p.q, seq, q_rows, rows.first, head),
            row_pointer<const T>(p.k, seq, kv_rows, 0, head_kv),
            row_pointer<const T>(p.v, seq, kv_rows, 0, head_kv),
            rows.first,
            rows.valid,
            key_blocks(visible, rows.first, rows.valid, Pipeline::kBlockKv),
            visible};
  }

  // Zeros and -inf in the padding rows of the tile's slot.
  static PA_DEVICE void store(const AttnParams& p, const BlockCtx& ctx, int32_t seq, int32_t head,
                              const SeqRows& q_rows, const TileRows& rows, const typename Pipeline::OutTile& o,
                              float lse) {
    const int lane = ctx.tid % kWarpSize, warp = ctx.tid / kWarpSize, first = warp * gfx942::kStrip;
    gfx942::store_strip(row_pointer<T>(p.o, seq, q_rows, rows.first + first, head), p.o.token_stride, o, 1.f,
                        ctx.smem + warp * gfx942::kStoreBytes, rows.valid - first, rows.total - first, p.head_dim_v,
                        lane);
    const int32_t row = first + lane;
    if (p.lse.data == nullptr || lane >= gfx942::kStrip || row >= rows.total) return;
    *row_pointer<float>(p.lse, seq, q_rows, rows.first + row, head) = row < rows.valid ? lse : neg_inf<float>();
  }
};

template <class Kernel>
bool takes_fmha_fwd_pingpong(const AttnParams& p) {
  return !has_extras(p) && gfx942::has_short_rows(p.q) && gfx942::has_short_rows(p.k) && gfx942::has_short_rows(p.v);
}

template <class Kernel>
int launch_fmha_fwd_pingpong(const AttnParams& p, void* stream) {
  const Grid grid{num_tile_blocks(p.q_side, p.batch, Kernel::kPlannedRows), p.num_heads_q};
  return launch<Kernel>(p, grid, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
