// Backward of the exact fallback, in two passes without atomics, so always deterministic:
//   UnfusedBwdDq   a tile of queries, over its key blocks:                  dq [64, kChunk] = scale * sum ds k
//   UnfusedBwdDkv  a tile of keys, over the query blocks of all its heads:  dk = scale * sum ds^T q,  dv = sum p^T do
// Each recomputes p and ds (attn/score_grad.cuh), rounds them to T and multiplies from shared memory.
#pragma once

#include <new>

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
  using OutTile = ResultTile<Acc, OutTiling::kM, OutTiling::kN>;
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
  static constexpr int kMinBlocks = 1;
  static constexpr int kChunk = Shape::kChunk;
  // ds lies where the operands of its products were.
  static constexpr int kOffsetK = max_of(Grad::Product::kSmemBytes, SmemScore::kBytes);
  static constexpr int kTileBytes = kOffsetK + SmemRows::kBytes;

  // What the block works on, in shared memory to spare registers.
  struct Shared {
    AttnGradHead<T> head;
    TileRows rows;
    BlockRange blocks;
    T* dq;  // first row and column of the tile
    PA_DEVICE Shared(const UnfusedParams& params, const UnfusedBlock& at, const WorkTile& work, const SeqRows& q_rows)
        : head(params.attn, work.seq, at.head, q_rows, seq_rows(params.attn.kv_side, params.attn.batch, work.seq)),
          rows(q_rows, work.block, kUnfusedBlockQ),
          blocks(rows.valid > 0 ? key_blocks(head.visible, rows.first, rows.valid, kUnfusedBlockKv) : BlockRange{}),
          dq(row_pointer<T>(params.attn.dq, work.seq, q_rows, rows.first, at.head) + at.chunk * kChunk) {}
  };
  static constexpr int kSmemBytes = kTileBytes + static_cast<int>(sizeof(Shared));
  static_assert(kSmemBytes <= Arch::kMaxSmemBytes, "a block has that much shared memory");

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    const UnfusedBlock at(params, ctx.x);
    WorkTile work;
    if (!next_tile(p.q_side, kUnfusedBlockQ, at.tile, p.window_right >= 0, work)) return;
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem + kTileBytes);
    if (ctx.tid == 0) new (&shared) Shared(params, at, work, seq_rows(p.q_side, p.batch, work.seq));
    block_sync();  // thread 0 has described the tile; all read it from here on

    const int32_t col = at.chunk * kChunk;
    OutTile dq;
    accumulate(params, shared, col, ctx, dq);
    const int lane = ctx.tid % Arch::kWarpSize;
    const typename Shape::OutTiling out_at(ctx.tid / Arch::kWarpSize);
    for_each(dq, lane, [&](Acc& x, int, int, int) { x *= static_cast<Acc>(p.attn_scale); });
    const SmemRows staging(ctx.smem);
    store_acc(staging, dq, out_at.row, out_at.col, lane);
    block_sync();  // all of dq is staged
    store_tile_any<kThreads>(params.wide, shared.dq, p.dq.token_stride, staging, shared.rows.valid, shared.rows.total,
                             p.head_dim_qk - col, ctx.tid);
  }

 private:
  static PA_DEVICE void accumulate(const UnfusedParams& params, const Shared& shared, int32_t col, const BlockCtx& ctx,
                                   OutTile& dq) {
    const AttnParams& p = params.attn;
    const SmemScore ds_tile(ctx.smem);
    const SmemRows k_tile(ctx.smem + kOffsetK);
    dq.fill(Acc(0));
    PA_NO_UNROLL
    for (int32_t n = shared.blocks.begin; n < shared.blocks.end; ++n) {
      const int tid = opaque(ctx.tid), lane = tid % Arch::kWarpSize, warp = tid / Arch::kWarpSize;
      const typename Grad::Tiling score_at(warp);
      const typename Shape::OutTiling out_at(warp);
      const int32_t kv0 = n * kUnfusedBlockKv;
      typename Grad::Tile prob, ds;
      Grad(p, params.wide, shared.head, ctx.smem, tid).run(shared.rows.first, kv0, prob, ds, [&] {
        const RowBlock<T> k = row_block(shared.head.k, p.k, kv0, shared.head.visible.seqlen_kv());
        load_tile_any<kThreads>(params.wide, k_tile, k.data + col, k.stride, k.valid, p.head_dim_qk - col, tid);
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
  // p and ds lie where the operands of their products were. Where p, ds, do and q do not fit together, p and do come
  // first, then ds and q take their places.
  static constexpr int tile_bytes(int tiles) {
    return max_of(Grad::Product::kSmemBytes, tiles * SmemScore::kBytes) + tiles * SmemRows::kBytes;
  }
  static constexpr bool kTogether = tile_bytes(2) + 1024 <= Arch::kMaxSmemBytes;
  static constexpr int kTileBytes = tile_bytes(kTogether ? 2 : 1);
  static constexpr int kOffsetRows = kTileBytes - (kTogether ? 2 : 1) * SmemRows::kBytes;

  // What the block works on, in shared memory to spare registers; `head` is remade for each query head.
  struct Shared {
    AttnGradHead<T> head;
    SeqRows q_rows, kv_rows;
    TileRows rows;
    int32_t seq, first_head;
    int32_t q_begin, q_end;  // query blocks that see some key of the tile: the same for all heads
    T *dk, *dv;              // first row and column of the tile
    PA_DEVICE Shared(const UnfusedParams& params, const UnfusedBlock& at, const WorkTile& work, const SeqRows& q,
                     const SeqRows& kv)
        : head(params.attn, work.seq, at.head * group(params.attn), q, kv),
          q_rows(q),
          kv_rows(kv),
          rows(kv, work.block, kUnfusedBlockKv),
          seq(work.seq),
          first_head(at.head * group(params.attn)),
          q_begin(first_row_reaching(head.visible, rows.first) / kUnfusedBlockQ),
          q_end(rows.valid > 0 ? ceil_div(first_row_past(head.visible, rows.first + rows.valid), kUnfusedBlockQ) : 0),
          dk(row_pointer<T>(params.attn.dk, work.seq, kv, rows.first, at.head) + at.chunk * kChunk),
          dv(row_pointer<T>(params.attn.dv, work.seq, kv, rows.first, at.head) + at.chunk * kChunk) {}
  };
  static constexpr int kSmemBytes = kTileBytes + static_cast<int>(sizeof(Shared));
  static_assert(kSmemBytes <= Arch::kMaxSmemBytes, "a block has that much shared memory");

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    const UnfusedBlock at(params, ctx.x);
    WorkTile work;
    if (!next_tile(p.kv_side, kUnfusedBlockKv, at.tile, false, work)) return;
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem + kTileBytes);
    if (ctx.tid == 0) {
      new (&shared)
          Shared(params, at, work, seq_rows(p.q_side, p.batch, work.seq), seq_rows(p.kv_side, p.batch, work.seq));
    }
    block_sync();  // thread 0 has described the tile; all read it from here on

    const int32_t col = at.chunk * kChunk;
    OutTile dk, dv;
    dk.fill(Acc(0));
    dv.fill(Acc(0));
    PA_NO_UNROLL
    for (int32_t i = 0; i < group(p); ++i) {
      if (i > 0) {
        if (ctx.tid == 0) {
          new (&shared.head) AttnGradHead<T>(p, shared.seq, shared.first_head + i, shared.q_rows, shared.kv_rows);
        }
        block_sync();  // thread 0 has described the next head; all were done with the last one
      }
      accumulate(params, shared, col, ctx, dk, dv);
    }
    for_each(dk, ctx.tid % Arch::kWarpSize, [&](Acc& x, int, int, int) { x *= static_cast<Acc>(p.attn_scale); });
    store(params.wide, shared.dk, p.dk.token_stride, shared.rows, p.head_dim_qk - col, ctx, dk);
    store(params.wide, shared.dv, p.dv.token_stride, shared.rows, p.head_dim_v - col, ctx, dv);
  }

 private:
  static PA_DEVICE int32_t group(const AttnParams& p) { return p.num_heads_q / p.num_heads_kv; }

  // Adds one query head's part.
  static PA_DEVICE void accumulate(const UnfusedParams& params, const Shared& shared, int32_t col, const BlockCtx& ctx,
                                   OutTile& dk, OutTile& dv) {
    const SmemScore p_tile(ctx.smem), ds_tile(ctx.smem + (kTogether ? SmemScore::kBytes : 0));
    const SmemRows do_tile(ctx.smem + kOffsetRows);
    const SmemRows q_tile(ctx.smem + kOffsetRows + (kTogether ? SmemRows::kBytes : 0));
    PA_NO_UNROLL
    for (int32_t m = shared.q_begin; m < shared.q_end; ++m) {
      const AttnParams& p = reread(params).attn;
      const int tid = opaque(ctx.tid), lane = tid % Arch::kWarpSize, warp = tid / Arch::kWarpSize;
      const typename Grad::Tiling score_at(warp);
      const typename Shape::OutTiling out_at(warp);
      const int32_t q0 = m * kUnfusedBlockQ;
      const auto load_q = [&] {
        const RowBlock<T> q = row_block(shared.head.q, p.q, q0, shared.q_rows.len);
        load_tile_any<kThreads>(params.wide, q_tile, q.data + col, q.stride, q.valid, p.head_dim_qk - col, tid);
      };
      typename Grad::Tile prob, ds;
      Grad(p, params.wide, shared.head, ctx.smem, tid).run(q0, shared.rows.first, prob, ds, [&] {
        const RowBlock<T> d_o = row_block(shared.head.d_o, p.d_o, q0, shared.q_rows.len);
        load_tile_any<kThreads>(params.wide, do_tile, d_o.data + col, d_o.stride, d_o.valid, p.head_dim_v - col, tid);
        if (kTogether) load_q();
      });
      store_acc(p_tile, prob, score_at.row, score_at.col, lane);
      if (kTogether) store_acc(ds_tile, ds, score_at.row, score_at.col, lane);
      copy_wait<0>();
      block_sync();  // p (and ds) are complete, do (and q) have arrived for all
      mma_tn(dv, p_tile, out_at.row, do_tile, out_at.col, lane);
      if constexpr (!kTogether) {
        block_sync();  // all are done with p and do
        load_q();
        copy_commit();
        store_acc(ds_tile, ds, score_at.row, score_at.col, lane);
        copy_wait<0>();
        block_sync();  // ds is complete, q has arrived for all
      }
      mma_tn(dk, ds_tile, out_at.row, q_tile, out_at.col, lane);
      block_sync();  // all are done with the tiles
    }
    block_sync();  // all are done with shared.head
  }

  // cols <= 0: the other output is wider.
  static PA_DEVICE void store(bool wide, T* out, int64_t stride, const TileRows& rows, int32_t cols,
                              const BlockCtx& ctx, const OutTile& acc) {
    if (cols <= 0) return;
    const typename Shape::OutTiling out_at(ctx.tid / Arch::kWarpSize);
    const SmemRows staging(ctx.smem);
    block_sync();  // all are done with the shared memory below
    store_acc(staging, acc, out_at.row, out_at.col, ctx.tid % Arch::kWarpSize);
    block_sync();  // the tile is staged
    store_tile_any<kThreads>(wide, out, stride, staging, rows.valid, rows.total, cols, ctx.tid);
  }
};

template <class T>
int run_unfused_bwd(const AttnParams& p, void* stream) {
  const bool wide = score_grad_has_wide_rows<T>(p) && has_wide_rows(p.dq, p.head_dim_qk, sizeof(T)) &&
                    has_wide_rows(p.dk, p.head_dim_qk, sizeof(T)) && has_wide_rows(p.dv, p.head_dim_v, sizeof(T));
  const int status =
      launch_unfused<UnfusedBwdDq<T>>(p, p.q_side, kUnfusedBlockQ, p.num_heads_q, p.head_dim_qk, wide, stream);
  if (status != 0) return status;
  return launch_unfused<UnfusedBwdDkv<T>>(p, p.kv_side, kUnfusedBlockKv, p.num_heads_kv,
                                          max_of(p.head_dim_qk, p.head_dim_v), wide, stream);
}

}  // namespace portattn
