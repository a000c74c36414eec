// Fused backward kernel of gfx942 for head dims of one size (pipeline/gfx942_bwd_resident.cuh): dk and dv of one (key
// tile, kv head), summed over the query heads that share it, and dq by atomic adds into a float buffer unless the
// caller wants determinism (kernel_bwd_dq.cuh then computes it).
//   q, dq [t_q, h, d], k, dk, v, dv [t_kv, h_kv, d], do [t_q, h, d], lse, delta [t_q, h]
// Grid: x = key tiles over all sequences, y = kv heads.
#pragma once

#include "attn/work_tile.cuh"
#include "fmha/die_order.cuh"
#include "fmha/pipeline/gfx942_bwd_resident.cuh"
#include "tile/arch_select.cuh"

namespace portattn {

template <class T, int HeadDim>
struct FmhaBwdResident {
  using Params = AttnParams;
  using Pipeline = gfx942::BwdResident<T, HeadDim>;
  static constexpr int kThreads = Pipeline::kWarps * kWarpSize;
  static constexpr int kMinBlocks = 1;
  static constexpr int32_t kPlannedRows = Pipeline::kBlockKv;
  static constexpr int kSmemBytes = Pipeline::kSmemBytes;
  static_assert(kSmemBytes <= Arch::kMaxSmemBytes, "a block has that much shared memory");
  static_assert(Pipeline::kWarps * gfx942::kStoreBytes <= kSmemBytes, "dk and dv are staged where q and do were");

  PA_DEVICE void operator()(const AttnParams& p, const BlockCtx& grid_ctx) const {
    const BlockCtx ctx = gfx942::by_die(grid_ctx, p.num_heads_kv);
    WorkTile work;
    if (!next_tile(p.kv_side, kPlannedRows, ctx.x, false, work)) return;
    work = gfx942::uniform(work);
    const SeqRows kv_rows = gfx942::uniform(seq_rows(p.kv_side, p.batch, work.seq));
    const TileRows rows(kv_rows, work.block, Pipeline::kBlockKv);
    typename Pipeline::GradTile dk[Pipeline::kStrips], dv[Pipeline::kStrips];
    if (rows.valid > 0) {
      Pipeline(p, make_tile(p, ctx.y, work.seq, kv_rows, rows), ctx.smem, ctx.tid).run(dk, dv);
    } else {
      PA_UNROLL
      for (int b = 0; b < Pipeline::kStrips; ++b) dk[b].fill(0.f), dv[b].fill(0.f);
    }
    store(p, ctx, work.seq, kv_rows, rows, dk, dv);
  }

 private:
  static PA_DEVICE gfx942::BwdStripTile<T> make_tile(const AttnParams& p, int32_t head, int32_t seq,
                                                     const SeqRows& kv_rows, const TileRows& rows) {
    const SeqRows q_rows = gfx942::uniform(seq_rows(p.q_side, p.batch, seq));
    const Visibility visible(p, q_rows.len, kv_rows.len);
    const int32_t group = p.num_heads_q / p.num_heads_kv, key_end = rows.first + rows.valid;
    gfx942::BwdStripTile<T> tile{row_pointer<const T>(p.k, seq, kv_rows, rows.first, head),
                                 row_pointer<const T>(p.v, seq, kv_rows, rows.first, head),
                                 rows.first,
                                 rows.valid,
                                 q_rows,
                                 visible,
                                 first_row_reaching(visible, rows.first) / Pipeline::kBlockQ,
                                 ceil_div(first_row_past(visible, key_end), Pipeline::kBlockQ),
                                 0,
                                 0,
                                 seq,
                                 head * group,
                                 group};
    if (rows.valid == Pipeline::kBlockKv) {
      tile.full_rows_begin = first_row_reaching(visible, key_end - 1);
      tile.full_rows_end = first_row_past(visible, rows.first + 1);
    }
    return gfx942::uniform(tile);
  }

  // Zeros in the padding rows of the tile's slot.
  static PA_DEVICE void store(const AttnParams& p, const BlockCtx& ctx, int32_t seq, const SeqRows& kv_rows,
                              const TileRows& rows, const typename Pipeline::GradTile (&dk)[Pipeline::kStrips],
                              const typename Pipeline::GradTile (&dv)[Pipeline::kStrips]) {
    const int lane = ctx.tid % kWarpSize, warp = ctx.tid / kWarpSize;
    char* staging = ctx.smem + warp * gfx942::kStoreBytes;
    PA_UNROLL
    for (int b = 0; b < Pipeline::kStrips; ++b) {
      const int first = (warp * Pipeline::kStrips + b) * gfx942::kStrip;
      gfx942::store_strip(row_pointer<T>(p.dk, seq, kv_rows, rows.first + first, ctx.y), p.dk.token_stride, dk[b],
                          p.attn_scale, staging, rows.valid - first, rows.total - first, p.head_dim_qk, lane);
      gfx942::store_strip(row_pointer<T>(p.dv, seq, kv_rows, rows.first + first, ctx.y), p.dv.token_stride, dv[b], 1.f,
                          staging, rows.valid - first, rows.total - first, p.head_dim_v, lane);
    }
  }
};

template <class Kernel>
bool takes_fmha_bwd_resident(const AttnParams& p) {
  return !has_extras(p) && gfx942::has_short_rows(p.q) && gfx942::has_short_rows(p.d_o) &&
         gfx942::has_short_rows(p.k) && gfx942::has_short_rows(p.v) && gfx942::has_short_rows(p.lse) &&
         gfx942::has_short_rows(p.delta);
}

template <class Kernel>
int launch_fmha_bwd_resident(const AttnParams& p, void* stream) {
  const Grid grid{num_tile_blocks(p.kv_side, p.batch, Kernel::kPlannedRows), p.num_heads_kv};
  return launch<Kernel>(p, grid, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
