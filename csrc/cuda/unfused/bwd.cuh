// Backward of the exact fallback, in two passes without atomics, so always deterministic:
//   UnfusedBwdDq   a tile of queries, over its key blocks:                  dq [64, kChunk] = scale * sum ds k
//   UnfusedBwdDkv  a tile of keys, over the query blocks of all its heads:  dk = scale * sum ds^T q,  dv = sum p^T do
// Each recomputes p and ds (attn/score_grad.cuh), rounds them to T and multiplies from shared memory.
#pragma once

#include "attn/score_grad.cuh"
#include "unfused/params.cuh"

namespace portattn {

// Sizes that both passes share.
template <class T>
struct UnfusedBwdShape {
  using Acc = AccOf<T>;
  static constexpr int kWarpsM = Arch::kWarpSize == 1 ? 1 : 4;
  static constexpr int kWarpsN = Arch::kWarpSize == 1 ? 1 : 2;
  static constexpr int kThreads = kWarpsM * kWarpsN * Arch::kWarpSize;
  static constexpr int kChunk = kUnfusedChunk<T>;
  using Grad = ScoreGrad<T, kWarpsM, kWarpsN>;
  using ScoreTile = typename Grad::Tile;
  using OutTiling = WarpTiling<kProductRows, kChunk, kWarpsM, kWarpsN>;
  using OutTile = AccTile<Acc, OutTiling::kM, OutTiling::kN>;
  using SmemScore = SmemTile<T, kProductRows, kProductRows>;
  using SmemRows = SmemTile<T, kProductRows, kChunk>;
};

template <class T>
struct UnfusedBwdDq {
  using Element = T;
  using Params = UnfusedParams;
  using Shape = UnfusedBwdShape<T>;
  using Grad = typename Shape::Grad;
  using SmemScore = typename Shape::SmemScore;
  using SmemRows = typename Shape::SmemRows;
  using OutTile = typename Shape::OutTile;
  using Acc = typename Shape::Acc;
  static constexpr int kThreads = Shape::kThreads;
  static constexpr int kMinBlocks = sizeof(T) == 2 ? 2 : 1;
  static constexpr int kChunk = Shape::kChunk;
  static constexpr int kSmemBytes = Grad::Product::kSmemBytes + SmemScore::kBytes + SmemRows::kBytes;

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    const UnfusedBlock block(params, ctx.x);
    WorkTile work;
    if (!next_tile(p.q_side, kUnfusedBlockQ, block.tile, p.window_right >= 0, work)) return;
    const SeqRows q_rows = seq_rows(p.q_side, p.batch, work.seq);
    const TileRows tile(q_rows, work.block, kUnfusedBlockQ);
    OutTile dq;
    dq.fill(Acc(0));
    if (tile.valid > 0) accumulate(params, block, work.seq, q_rows, tile, ctx, dq);

    const int warp = ctx.tid / Arch::kWarpSize;
    const typename Shape::OutTiling out(warp);
    const SmemRows staging(ctx.smem);
    for_each(dq, ctx.tid % Arch::kWarpSize, [&](Acc& x, int, int, int) { x *= static_cast<Acc>(p.attn_scale); });
    store_acc(staging, dq, out.row, out.col, ctx.tid % Arch::kWarpSize);
    block_sync();  // all of dq is staged
    const int32_t col = block.chunk * kChunk;
    store_tile_any<kThreads>(params.wide, row_pointer<T>(p.dq, work.seq, q_rows, tile.first, block.head) + col,
                             p.dq.token_stride, staging, tile.valid, tile.total, p.head_dim_qk - col, ctx.tid);
  }

 private:
  static PA_DEVICE void accumulate(const UnfusedParams& params, const UnfusedBlock& block, int32_t seq,
                                   const SeqRows& q_rows, const TileRows& tile, const BlockCtx& ctx, OutTile& dq) {
    const AttnParams& p = params.attn;
    const int lane = ctx.tid % Arch::kWarpSize, warp = ctx.tid / Arch::kWarpSize;
    const typename Grad::Tiling score_at(warp);
    const typename Shape::OutTiling out_at(warp);
    const SeqRows kv_rows = seq_rows(p.kv_side, p.batch, seq);
    const typename Grad::Product product(ctx.smem, params.wide, ctx.tid);
    const Grad grad(p, seq, block.head, q_rows, kv_rows, product, ctx.tid);
    const SmemScore ds_tile(ctx.smem + Grad::Product::kSmemBytes);
    const SmemRows k_tile(ctx.smem + Grad::Product::kSmemBytes + SmemScore::kBytes);
    const int32_t head_kv = block.head / (p.num_heads_q / p.num_heads_kv), col = block.chunk * kChunk;

    const BlockRange blocks = key_blocks(grad.visible(), tile.first, tile.valid, kUnfusedBlockKv);
    for (int32_t n = blocks.begin; n < blocks.end; ++n) {
      const RowBlock<T> k = row_block<T>(p.k, seq, kv_rows, n * kUnfusedBlockKv, head_kv);
      typename Grad::Tile prob, ds;
      grad.run(tile.first, n * kUnfusedBlockKv, prob, ds, [&] {
        load_tile_any<kThreads>(params.wide, k_tile, k.data + col, k.stride, k.valid, p.head_dim_qk - col, ctx.tid);
      });
      store_acc(ds_tile, ds, score_at.row, score_at.col, lane);
      copy_wait<0>();
      block_sync();  // ds is complete and k has arrived for all
      mma_nn(dq, ds_tile, out_at.row, k_tile, out_at.col, lane);
      block_sync();  // all are done with ds and k
    }
  }
};

template <class T>
struct UnfusedBwdDkv {
  using Element = T;
  using Params = UnfusedParams;
  using Shape = UnfusedBwdShape<T>;
  using Grad = typename Shape::Grad;
  using SmemScore = typename Shape::SmemScore;
  using SmemRows = typename Shape::SmemRows;
  using OutTile = typename Shape::OutTile;
  using Acc = typename Shape::Acc;
  static constexpr int kThreads = Shape::kThreads;
  static constexpr int kMinBlocks = 1;
  static constexpr int kChunk = Shape::kChunk;
  static constexpr int kSmemBytes = Grad::Product::kSmemBytes + 2 * SmemScore::kBytes + 2 * SmemRows::kBytes;

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    const UnfusedBlock block(params, ctx.x);
    WorkTile work;
    if (!next_tile(p.kv_side, kUnfusedBlockKv, block.tile, false, work)) return;
    const SeqRows kv_rows = seq_rows(p.kv_side, p.batch, work.seq);
    const TileRows tile(kv_rows, work.block, kUnfusedBlockKv);
    OutTile dk, dv;
    dk.fill(Acc(0));
    dv.fill(Acc(0));
    if (tile.valid > 0) {
      const int32_t group = p.num_heads_q / p.num_heads_kv;
      for (int32_t head = block.head * group; head < (block.head + 1) * group; ++head) {
        accumulate(params, head, block.chunk * kChunk, work.seq, kv_rows, tile, ctx, dk, dv);
      }
    }
    for_each(dk, ctx.tid % Arch::kWarpSize, [&](Acc& x, int, int, int) { x *= static_cast<Acc>(p.attn_scale); });
    store(params, p.dk, p.head_dim_qk, block, work.seq, kv_rows, tile, ctx, dk);
    store(params, p.dv, p.head_dim_v, block, work.seq, kv_rows, tile, ctx, dv);
  }

 private:
  // Adds one query head's part.
  static PA_DEVICE void accumulate(const UnfusedParams& params, int32_t head, int32_t col, int32_t seq,
                                   const SeqRows& kv_rows, const TileRows& tile, const BlockCtx& ctx, OutTile& dk,
                                   OutTile& dv) {
    const AttnParams& p = params.attn;
    const int lane = ctx.tid % Arch::kWarpSize, warp = ctx.tid / Arch::kWarpSize;
    const typename Grad::Tiling score_at(warp);
    const typename Shape::OutTiling out_at(warp);
    const SeqRows q_rows = seq_rows(p.q_side, p.batch, seq);
    const typename Grad::Product product(ctx.smem, params.wide, ctx.tid);
    const Grad grad(p, seq, head, q_rows, kv_rows, product, ctx.tid);
    char* smem = ctx.smem + Grad::Product::kSmemBytes;
    const SmemScore p_tile(smem), ds_tile(smem + SmemScore::kBytes);
    const SmemRows q_tile(smem + 2 * SmemScore::kBytes), do_tile(smem + 2 * SmemScore::kBytes + SmemRows::kBytes);

    const int32_t first = first_row_reaching(grad.visible(), tile.first) / kUnfusedBlockQ;
    const int32_t end = ceil_div(first_row_past(grad.visible(), tile.first + tile.valid), kUnfusedBlockQ);
    for (int32_t m = first; m < end; ++m) {
      const RowBlock<T> q = row_block<T>(p.q, seq, q_rows, m * kUnfusedBlockQ, head);
      const RowBlock<T> d_o = row_block<T>(p.d_o, seq, q_rows, m * kUnfusedBlockQ, head);
      typename Grad::Tile prob, ds;
      grad.run(m * kUnfusedBlockQ, tile.first, prob, ds, [&] {
        load_tile_any<kThreads>(params.wide, q_tile, q.data + col, q.stride, q.valid, p.head_dim_qk - col, ctx.tid);
        load_tile_any<kThreads>(params.wide, do_tile, d_o.data + col, d_o.stride, d_o.valid, p.head_dim_v - col,
                                ctx.tid);
      });
      store_acc(p_tile, prob, score_at.row, score_at.col, lane);
      store_acc(ds_tile, ds, score_at.row, score_at.col, lane);
      copy_wait<0>();
      block_sync();  // p and ds are complete, q and do have arrived for all
      mma_tn(dv, p_tile, out_at.row, do_tile, out_at.col, lane);
      mma_tn(dk, ds_tile, out_at.row, q_tile, out_at.col, lane);
      block_sync();  // all are done with the four tiles
    }
  }

  static PA_DEVICE void store(const UnfusedParams& params, const TensorView& view, int32_t head_dim,
                              const UnfusedBlock& block, int32_t seq, const SeqRows& rows, const TileRows& tile,
                              const BlockCtx& ctx, const OutTile& out) {
    const int32_t col = block.chunk * kChunk;
    if (col >= head_dim) return;  // the other output is wider
    const typename Shape::OutTiling out_at(ctx.tid / Arch::kWarpSize);
    const SmemRows staging(ctx.smem);
    block_sync();  // all are done with the shared memory below
    store_acc(staging, out, out_at.row, out_at.col, ctx.tid % Arch::kWarpSize);
    block_sync();  // the tile is staged
    store_tile_any<kThreads>(params.wide, row_pointer<T>(view, seq, rows, tile.first, block.head) + col,
                             view.token_stride, staging, tile.valid, tile.total, head_dim - col, ctx.tid);
  }
};

template <class T>
int run_unfused_bwd(const AttnParams& p, void* stream) {
  const bool wide = score_grad_has_wide_rows<T>(p) && has_wide_rows(p.dq, p.head_dim_qk, sizeof(T)) &&
                    has_wide_rows(p.dk, p.head_dim_qk, sizeof(T)) && has_wide_rows(p.dv, p.head_dim_v, sizeof(T));
  const int status = launch_unfused<UnfusedBwdDq<T>>(p, p.q_side, kUnfusedBlockQ, p.num_heads_q, p.head_dim_qk, wide,
                                                     stream);
  if (status != 0) return status;
  return launch_unfused<UnfusedBwdDkv<T>>(p, p.kv_side, kUnfusedBlockKv, p.num_heads_kv,
                                          max_of(p.head_dim_qk, p.head_dim_v), wide, stream);
}

}  // namespace portattn
