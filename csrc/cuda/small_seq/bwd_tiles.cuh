// Backward of short segments by the matrix unit: a block has the rows of a unit in shared memory, and puts their
// gradients where they were.
//   p = exp(scale q k^T - lse)   dp = do v^T   delta = sum_j p_j dp_j   ds = p (dp - delta)
//   dq = scale ds k              dk = scale ds^T q                      dv = p^T do
// Each row is read and written once. A unit with more queries or keys than a tile has rows goes the slow way.
#pragma once

#include "small_seq/grad.cuh"
#include "small_seq/unit_tiles.cuh"

namespace portattn {

template <class T, int Rows, int HeadDim>
struct SmallSeqBwdTiles {
  using Params = SmallSeqParams;
  using Tiles = UnitTiles<T, Rows, HeadDim>;
  using Tile = typename Tiles::Tile;
  using SmemScores = typename Tiles::SmemScores;
  using ScoreTile = typename Tiles::ScoreTile;
  using Values = typename Tiles::Values;
  using Queries = typename Tiles::Queries;
  using SlowWay = SmallSeqGrad<T, Tiles::kVecs>;
  using Walk = UnitWalk<kWarpSize>;
  static constexpr int kThreads = Tiles::kThreads;
  static constexpr int kMinBlocks = HeadDim > 128 ? 3 : 12 / Tiles::kWarps;  // what shared memory allows on sm_90
  static constexpr int kSmemBytes = 4 * Tile::kBytes + 2 * SmemScores::kBytes;

  static int32_t padding_blocks(const AttnParams& p) { return SlowWay::template padding_blocks<kThreads>(p); }

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    if (ctx.x < params.padding_blocks) return SlowWay::template zero_far<kThreads>(params.attn, ctx);
    Walk::for_each(params, of_one_warp(ctx), [&](const Team& team, int32_t index) {
      const SmallSeqUnit unit(params, index);
      const bool fits = unit.num_queries <= Rows && unit.kv.len <= Rows;
      if (fits) write(params, unit, ctx);
      if (ctx.tid >= kWarpSize) return;
      SlowWay::zero_outputs(params, team, unit);
      if (!fits) SlowWay::write_any(params, team, unit);
    });
  }

 private:
  struct Smem {
    Tile q, k, v, d_o;
    SmemScores p, ds;
    PA_DEVICE explicit Smem(char* smem)
        : q(smem),
          k(smem + Tile::kBytes),
          v(smem + 2 * Tile::kBytes),
          d_o(smem + 3 * Tile::kBytes),
          p(smem + 4 * Tile::kBytes),
          ds(smem + 4 * Tile::kBytes + SmemScores::kBytes) {}
  };

  static PA_DEVICE void write(const Params& params, const SmallSeqUnit& unit, const BlockCtx& ctx) {
    const AttnParams& p = params.attn;
    if (unit.num_queries == 0 && unit.kv.len == 0) return;
    const Tiles tiles(params, unit, ctx.tid);
    const Smem smem(ctx.smem);
    tiles.load_queries(smem.q, p.q, p.head_dim_qk, 0);
    tiles.load_keys(smem.k, p.k, p.head_dim_qk);
    copy_commit();
    tiles.load_queries(smem.d_o, p.d_o, p.head_dim_v, 0);
    tiles.load_keys(smem.v, p.v, p.head_dim_v);
    copy_commit();
    make_p_and_ds(p, unit, tiles, smem);
    make_gradients(p.attn_scale, tiles, smem);
    tiles.store_keys(smem.v, p.dv, p.head_dim_v);
    tiles.store_keys(smem.k, p.dk, p.head_dim_qk);
    tiles.store_queries(smem.q, p.dq, p.head_dim_qk, 0);
    Tiles::sync();  // the tiles have been read; the next unit may overwrite them
  }

  static PA_DEVICE void make_p_and_ds(const AttnParams& p, const SmallSeqUnit& unit, const Tiles& tiles,
                                      const Smem& smem) {
    const Queries queries = tiles.queries(0);
    const Values lse = load_lse(p, unit, queries);
    ScoreTile s, dp;
    s.fill(0.f);
    dp.fill(0.f);
    copy_wait<1>();
    Tiles::sync();  // q and k have arrived
    mma_nt(s, smem.q, tiles.warp_row, smem.k, 0, tiles.lane);
    const float scale = p.attn_scale * static_cast<float>(kLog2e);
    for_each(s, tiles.lane, [&](float& x, int slot, int, int key) {
      x = queries.at[slot].sees(key) ? fast_exp2(x * scale - lse[slot]) : 0.f;
    });
    copy_wait<0>();
    Tiles::sync();  // do and v have arrived
    mma_nt(dp, smem.d_o, tiles.warp_row, smem.v, 0, tiles.lane);
    Values delta;
    delta.fill(0.f);
    for_each_pair(s, dp, [&](float& prob, float& grad, int slot) { delta[slot] += prob * grad; });
    row_allsum(delta);
    for_each_pair(s, dp, [&](float& prob, float& grad, int slot) { grad = prob * (grad - delta[slot]); });
    store_acc(smem.p, s, tiles.warp_row, 0, tiles.lane);
    store_acc(smem.ds, dp, tiles.warp_row, 0, tiles.lane);
    Tiles::sync();  // p and ds are complete, v has been read
  }

  // In base 2; 0 where there is no query.
  static PA_DEVICE Values load_lse(const AttnParams& p, const SmallSeqUnit& unit, const Queries& queries) {
    Values lse;
    lse.fill(0.f);
    PA_UNROLL
    for (int slot = 0; slot < ScoreTile::kRowSlots; ++slot) {
      const UnitQuery& query = queries.at[slot];
      if (!query.exists) continue;
      lse[slot] =
          *row_pointer<const float>(p.lse, unit.seq, unit.q, query.row, query.head) * static_cast<float>(kLog2e);
    }
    return lse;
  }

  // f(probability, gradient, row slot) for all that this lane holds.
  template <class F>
  static PA_DEVICE void for_each_pair(ScoreTile& s, ScoreTile& dp, F f) {
    PA_UNROLL
    for (int slot = 0; slot < ScoreTile::kRowSlots; ++slot) {
      PA_UNROLL
      for (int c = 0; c < ScoreTile::kColSlots; ++c) f(s.at(slot, c), dp.at(slot, c), slot);
    }
  }

  // dv in the place of v, dk of k, dq of q, in strips of columns, which are read before they are written.
  static PA_DEVICE void make_gradients(float scale, const Tiles& tiles, const Smem& smem) {
    constexpr int kColumns = 1024 / Rows;
    using Strip = AccTile<float, Rows, kColumns>;
    PA_UNROLL
    for (int i = 0; i < HeadDim / kColumns; i += Tiles::kWarps) {
      const int col = (i + tiles.warp) * kColumns;
      Strip dv, dk, dq;
      dv.fill(0.f);
      mma_tn(dv, smem.p, 0, smem.d_o, col, tiles.lane);
      store_acc(smem.v, dv, 0, col, tiles.lane);
      dk.fill(0.f);
      mma_tn(dk, smem.ds, 0, smem.q, col, tiles.lane);
      dq.fill(0.f);
      mma_nn(dq, smem.ds, 0, smem.k, col, tiles.lane);
      warp_sync();  // the strip of q and k has been read
      store_scaled(smem.k, dk, scale, col, tiles.lane);
      store_scaled(smem.q, dq, scale, col, tiles.lane);
    }
    Tiles::sync();  // all gradients are staged
  }

  template <class Strip>
  static PA_DEVICE void store_scaled(const Tile& tile, Strip& strip, float scale, int col, int lane) {
    for_each(strip, lane, [&](float& x, int, int, int) { x *= scale; });
    store_acc(tile, strip, 0, col, lane);
  }
};

}  // namespace portattn
