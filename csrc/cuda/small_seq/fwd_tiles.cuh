// Forward of short segments by the matrix unit: a block keeps the keys and values of a unit in shared memory and takes
// its queries a tile at a time.
//   s = scale q k^T   p = softmax(s)   o = p v
// Each row is read and written once. A unit with more keys than a tile has rows goes the slow way.
#pragma once

#include "small_seq/fwd.cuh"
#include "small_seq/unit_tiles.cuh"

namespace portattn {

template <class T, int Rows, int HeadDim>
struct SmallSeqFwdTiles {
  using Params = SmallSeqParams;
  using Tiles = UnitTiles<T, Rows, HeadDim>;
  using Tile = typename Tiles::Tile;
  using ScoreTile = typename Tiles::ScoreTile;
  using Values = typename Tiles::Values;
  using Queries = typename Tiles::Queries;
  using SlowWay = SmallSeqFwd<T, Tiles::kVecs, 2, 1>;
  using Walk = UnitWalk<kWarpSize>;
  static constexpr int kThreads = Tiles::kThreads;
  static constexpr int kMinBlocks = HeadDim > 128 ? 4 : 18 / Tiles::kWarps;  // what shared memory allows on sm_90
  static constexpr int kSmemBytes = 3 * Tile::kBytes;

  static int32_t padding_blocks(const AttnParams& p) { return FarPadding<kThreads>::blocks(p.q_side, p.batch); }

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    if (ctx.x < params.padding_blocks) return SlowWay::template zero_far<kThreads>(params.attn, ctx);
    Walk::for_each(params, of_one_warp(ctx), [&](const Team& team, int32_t index) {
      const SmallSeqUnit unit(params, index);
      const bool fits = unit.kv.len <= Rows;
      if (fits) attend_all(params, unit, ctx);
      if (ctx.tid >= kWarpSize) return;
      SlowWay::zero_outputs(params, team, unit);
      if (!fits) SlowWay::attend_all(params, team, unit);
    });
  }

 private:
  struct Smem {
    Tile q, k, v;  // o is staged where q was
    PA_DEVICE explicit Smem(char* smem) : q(smem), k(smem + Tile::kBytes), v(smem + 2 * Tile::kBytes) {}
  };

  static PA_DEVICE void attend_all(const Params& params, const SmallSeqUnit& unit, const BlockCtx& ctx) {
    const AttnParams& p = params.attn;
    const Tiles tiles(params, unit, ctx.tid);
    const Smem smem(ctx.smem);
    PA_NO_UNROLL
    for (int32_t first = 0; first < unit.num_queries; first += Rows) {
      tiles.load_queries(smem.q, p.q, p.head_dim_qk, first);
      if (first == 0) tiles.load_keys(smem.k, p.k, p.head_dim_qk);
      copy_commit();
      if (first == 0) tiles.load_keys(smem.v, p.v, p.head_dim_v);
      copy_commit();
      attend(p, unit, tiles, tiles.queries(first), smem);
      Tiles::sync();  // o is staged
      tiles.store_queries(smem.q, p.o, p.head_dim_v, first);
      Tiles::sync();  // o has been read; the next queries may overwrite it
    }
  }

  // o of a tile of queries, in the place of q.
  static PA_DEVICE void attend(const AttnParams& p, const SmallSeqUnit& unit, const Tiles& tiles,
                               const Queries& queries, const Smem& smem) {
    ScoreTile s;
    Values factor;
    s.fill(0.f);
    copy_wait<1>();
    Tiles::sync();  // q and k have arrived
    mma_nt(s, smem.q, tiles.warp_row, smem.k, 0, tiles.lane);
    softmax(p, unit, queries, tiles.lane, s, factor);
    copy_wait<0>();
    Tiles::sync();                // v has arrived, q has been read
    constexpr int kColumns = 64;  // at a time, so that few registers hold the sums
    using Out = AccTile<float, Tiles::kWarpRows, kColumns>;
    PA_UNROLL
    for (int col = 0; col < HeadDim; col += kColumns) {
      Out o;
      o.fill(0.f);
      mma_rn(o, s, smem.q, 0, smem.v, col, tiles.lane);
      for_each(o, tiles.lane, [&](float& x, int slot, int, int) { x *= factor[slot]; });
      store_acc(smem.q, o, tiles.warp_row, col, tiles.lane);
    }
  }

  // Turns scores into exponentials relative to the largest of a row, gives what makes their sum 1, and stores lse. A
  // query that sees nothing gets o = 0 and lse = -inf.
  static PA_DEVICE void softmax(const AttnParams& p, const SmallSeqUnit& unit, const Queries& queries, int lane,
                                ScoreTile& s, Values& factor) {
    const float scale = p.attn_scale * static_cast<float>(kLog2e);
    for_each(s, lane,
             [&](float& x, int slot, int, int key) { x = queries.at[slot].sees(key) ? x * scale : neg_inf<float>(); });
    Values max, sum;
    row_max(s, max);
    sum.fill(0.f);
    for_each(s, lane, [&](float& x, int slot, int, int) {
      x = fast_exp2(x - (max[slot] == neg_inf<float>() ? 0.f : max[slot]));
      sum[slot] += x;
    });
    row_allsum(sum);
    PA_UNROLL
    for (int slot = 0; slot < ScoreTile::kRowSlots; ++slot) {
      factor[slot] = sum[slot] > 0.f ? 1.f / sum[slot] : 0.f;
      const UnitQuery& query = queries.at[slot];
      if (p.lse.data == nullptr || !query.exists || ScoreTile::Layout::col(lane, 0) != 0) continue;
      *row_pointer<float>(p.lse, unit.seq, unit.q, query.row, query.head) =
          sum[slot] > 0.f ? static_cast<float>(kLn2) * (max[slot] + log2_acc(sum[slot])) : neg_inf<float>();
    }
  }
};

}  // namespace portattn
