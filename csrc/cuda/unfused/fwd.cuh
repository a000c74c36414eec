// Forward of the exact fallback: for one tile of queries, one head and one chunk of o's columns
//   s [64, 64] = q k^T over pieces of the head dim;  p = online softmax(mask(score(s)));  o [64, kChunk] += p v
// Memory is linear in tokens; every head dim, alignment, dtype and mask is served.
#pragma once

#include <new>

#include "attn/block_product.cuh"
#include "attn/dropout.cuh"
#include "attn/head.cuh"
#include "attn/softmax.cuh"
#include "unfused/params.cuh"

namespace portattn {

template <class T>
struct UnfusedFwd {
  using Element = T;
  using Acc = AccOf<T>;
  using Params = UnfusedParams;
  static constexpr int kWarps = Arch::kWarpSize == 1 ? 1 : 4;
  static constexpr int kThreads = kWarps * Arch::kWarpSize;
  static constexpr int kMinBlocks = sizeof(T) == 2 ? 2 : 1;
  static constexpr int kChunk = kUnfusedChunk<T>;
  static_assert(kUnfusedBlockQ == kProductRows && kUnfusedBlockKv == kProductRows, "tiles are those of BlockProduct");

  static constexpr int kWarpRows = kUnfusedBlockQ / kWarps;
  using ScoreTile = AccTile<Acc, kWarpRows, kUnfusedBlockKv>;
  using OutTile = ResultTile<Acc, kWarpRows, kChunk>;
  using Softmax = OnlineSoftmax<ScoreTile>;
  using Product = BlockProduct<T, kThreads>;
  using SmemP = SmemTile<T, kUnfusedBlockQ, kUnfusedBlockKv>;
  using SmemV = SmemTile<T, kUnfusedBlockKv, kChunk>;
  using SmemO = SmemTile<T, kUnfusedBlockQ, kChunk>;
  // p lies where the operands of q k^T were, o is staged where all of them were.
  static constexpr int kOffsetV = max_of(Product::kSmemBytes, SmemP::kBytes);
  static constexpr int kTileBytes = max_of(kOffsetV + SmemV::kBytes, SmemO::kBytes);

  // What the block works on, in shared memory to spare registers.
  struct Shared {
    AttnHead<T> head;
    TileRows rows;
    BlockRange blocks;
    T* o;        // first row and column of the tile
    float* lse;  // first row; null when another block writes it
    PA_DEVICE Shared(const UnfusedParams& params, const UnfusedBlock& at, const WorkTile& work, const SeqRows& q_rows)
        : head(params.attn, work.seq, at.head, q_rows, seq_rows(params.attn.kv_side, params.attn.batch, work.seq)),
          rows(q_rows, work.block, kUnfusedBlockQ),
          blocks(rows.valid > 0 ? key_blocks(head.visible, rows.first, rows.valid, kUnfusedBlockKv) : BlockRange{}),
          o(row_pointer<T>(params.attn.o, work.seq, q_rows, rows.first, at.head) + at.chunk * kChunk),
          lse(at.chunk == 0 && params.attn.lse.data != nullptr
                  ? row_pointer<float>(params.attn.lse, work.seq, q_rows, rows.first, at.head)
                  : nullptr) {}
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
    OutTile o;
    Softmax softmax(shared.head.score.exp_scale());
    accumulate(params, shared, col, ctx, softmax, o);
    RowValues<ScoreTile> lse;
    const Acc sink = p.softmax_offset != nullptr ? static_cast<Acc>(p.softmax_offset[at.head]) : Acc(0);
    softmax.finish(o, lse, p.has_sink, sink, static_cast<Acc>(shared.head.dropout.keep_scale));
    store(params, shared, col, ctx, o, lse);
  }

 private:
  static PA_DEVICE void accumulate(const UnfusedParams& params, const Shared& shared, int32_t col, const BlockCtx& ctx,
                                   Softmax& softmax, OutTile& o) {
    const AttnParams& p = params.attn;
    const AttnHead<T>& head = shared.head;
    const int32_t seqlen_kv = head.visible.seqlen_kv();
    const SmemP p_tile(ctx.smem);
    const SmemV v_tile(ctx.smem + kOffsetV);
    o.fill(Acc(0));
    PA_NO_UNROLL
    for (int32_t n = shared.blocks.begin; n < shared.blocks.end; ++n) {
      const int tid = opaque(ctx.tid), lane = tid % Arch::kWarpSize, warp_row = tid / Arch::kWarpSize * kWarpRows;
      const int32_t row0 = shared.rows.first + warp_row, col0 = n * kUnfusedBlockKv;
      const Product product(ctx.smem, params.wide, tid);
      ScoreTile s;
      s.fill(Acc(0));
      product.add(s, row_block(head.q, p.q, shared.rows.first, head.visible.seqlen_q()),
                  row_block(head.k, p.k, col0, seqlen_kv), p.head_dim_qk, warp_row, 0, [&] {
                    const RowBlock<T> v = row_block(head.v, p.v, col0, seqlen_kv);
                    load_tile_any<kThreads>(params.wide, v_tile, v.data + col, v.stride, v.valid, p.head_dim_v - col,
                                            tid);
                  });
      head.score.transform(s, lane, row0, col0, head.visible.seqlen_q(), seqlen_kv);
      if (!shared.blocks.is_full(n)) mask_tile(s, lane, head.visible, row0, col0);
      softmax.update(s, o);
      if (head.dropout.enabled()) {
        KeepMask<ScoreTile> keep;
        keep.draw(head.dropout, lane, row0, col0);
        keep.apply(s, Acc(1));  // the factor of kept elements is applied to o, once
      }
      store_acc(p_tile, s, warp_row, 0, lane);
      copy_wait<0>();
      block_sync();  // p is complete and v has arrived for all
      mma_nn(o, p_tile, warp_row, v_tile, 0, lane);
      block_sync();  // all are done with p and v
    }
  }

  // Rows past the sequence get 0 and -inf.
  static PA_DEVICE void store(const UnfusedParams& params, const Shared& shared, int32_t col, const BlockCtx& ctx,
                              const OutTile& o, const RowValues<ScoreTile>& lse) {
    const AttnParams& p = params.attn;
    const int lane = ctx.tid % Arch::kWarpSize, warp_row = ctx.tid / Arch::kWarpSize * kWarpRows;
    const SmemO staging(ctx.smem);
    store_acc(staging, o, warp_row, 0, lane);
    if (shared.lse != nullptr && ScoreTile::Layout::col(lane, 0) == 0) {  // one lane of a row writes
      PA_UNROLL
      for (int s = 0; s < ScoreTile::kRowSlots; ++s) {
        const int32_t r = warp_row + ScoreTile::Layout::row(lane, s);
        if (r >= shared.rows.total) continue;
        shared.lse[r * p.lse.token_stride] = r < shared.rows.valid ? static_cast<float>(lse[s]) : neg_inf<float>();
      }
    }
    block_sync();  // all of o is staged
    store_tile_any<kThreads>(params.wide, shared.o, p.o.token_stride, staging, shared.rows.valid, shared.rows.total,
                             p.head_dim_v - col, ctx.tid);
  }
};

template <class T>
int run_unfused_fwd(const AttnParams& p, void* stream) {
  const bool wide = has_wide_rows(p.q, p.head_dim_qk, sizeof(T)) && has_wide_rows(p.k, p.head_dim_qk, sizeof(T)) &&
                    has_wide_rows(p.v, p.head_dim_v, sizeof(T)) && has_wide_rows(p.o, p.head_dim_v, sizeof(T));
  return launch_unfused<UnfusedFwd<T>>(p, p.q_side, kUnfusedBlockQ, p.num_heads_q, p.head_dim_v, wide, stream);
}

}  // namespace portattn
