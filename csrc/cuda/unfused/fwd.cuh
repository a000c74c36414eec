// Forward of the exact fallback: for one tile of queries, one head and one chunk of o's columns
//   s [64, 64] = q k^T over pieces of the head dim;  p = online softmax(mask(score(s)));  o [64, kChunk] += p v
// Memory is linear in tokens; every head dim, alignment, dtype and mask is served.
#pragma once

#include "attn/block_product.cuh"
#include "attn/dropout.cuh"
#include "attn/score.cuh"
#include "attn/softmax.cuh"
#include "attn/visibility.cuh"
#include "unfused/params.cuh"

namespace portattn {

template <class T>
struct UnfusedFwd {
  using Element = T;
  using Acc = AccOf<T>;
  using Params = UnfusedParams;
  static constexpr int kWarps = Arch::kWarpSize == 1 ? 1 : 4;
  static constexpr int kThreads = kWarps * Arch::kWarpSize;
  static constexpr int kMinBlocks = sizeof(T) == 2 ? 3 : 1;
  static constexpr int kChunk = kUnfusedChunk<T>;
  static_assert(kUnfusedBlockQ == kProductRows && kUnfusedBlockKv == kProductRows, "tiles are those of BlockProduct");

  static constexpr int kWarpRows = kUnfusedBlockQ / kWarps;
  using ScoreTile = AccTile<Acc, kWarpRows, kUnfusedBlockKv>;
  using OutTile = AccTile<Acc, kWarpRows, kChunk>;
  using Softmax = OnlineSoftmax<ScoreTile>;
  using Product = BlockProduct<T, kThreads>;
  using SmemV = SmemTile<T, kUnfusedBlockKv, kChunk>;
  using SmemO = SmemTile<T, kUnfusedBlockQ, kChunk>;
  static constexpr int kSmemBytes = Product::kSmemBytes + SmemV::kBytes;
  static_assert(SmemO::kBytes <= kSmemBytes, "o is staged where the operands were");

  // One block's place: rows of queries and keys of one sequence, one head, columns [col, col + cols) of v and o.
  struct Place {
    UnfusedBlock block;
    int32_t seq, head_kv;
    SeqRows q_rows, kv_rows;
    TileRows tile;
    int32_t col, cols;
    PA_DEVICE Place(const UnfusedParams& params, const UnfusedBlock& b, const WorkTile& work)
        : block(b), seq(work.seq), head_kv(b.head / (params.attn.num_heads_q / params.attn.num_heads_kv)),
          q_rows(seq_rows(params.attn.q_side, params.attn.batch, work.seq)),
          kv_rows(seq_rows(params.attn.kv_side, params.attn.batch, work.seq)),
          tile(q_rows, work.block, kUnfusedBlockQ), col(b.chunk * kChunk),
          cols(min_of(params.attn.head_dim_v - col, kChunk)) {}
  };

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    const UnfusedBlock block(params, ctx.x);
    WorkTile work;
    if (!next_tile(p.q_side, kUnfusedBlockQ, block.tile, p.window_right >= 0, work)) return;
    const Place at(params, block, work);

    OutTile o;
    RowValues<ScoreTile> lse;
    o.fill(Acc(0));
    lse.fill(neg_inf<Acc>());
    if (at.tile.valid > 0) attend(params, at, ctx, o, lse);
    store(params, at, ctx, o, lse);
  }

 private:
  static PA_DEVICE void attend(const UnfusedParams& params, const Place& at, const BlockCtx& ctx, OutTile& o,
                               RowValues<ScoreTile>& lse) {
    const AttnParams& p = params.attn;
    const int lane = ctx.tid % Arch::kWarpSize, warp_row = ctx.tid / Arch::kWarpSize * kWarpRows;
    const int32_t row0 = at.tile.first + warp_row;
    const Visibility visible(p, at.q_rows.len, at.kv_rows.len);
    const Score<T> score(p, at.seq, at.block.head, visible.offset());
    const Dropout dropout = make_dropout(p, at.seq, at.block.head);
    const Product product(ctx.smem, params.wide, ctx.tid);
    const SmemV v_tile(ctx.smem + Product::kSmemBytes);
    const RowBlock<T> q = row_block<T>(p.q, at.seq, at.q_rows, at.tile.first, at.block.head);

    Softmax softmax(score.exp_scale());
    const BlockRange blocks = key_blocks(visible, at.tile.first, at.tile.valid, kUnfusedBlockKv);
    for (int32_t n = blocks.begin; n < blocks.end; ++n) {
      const int32_t col0 = n * kUnfusedBlockKv;
      const RowBlock<T> k = row_block<T>(p.k, at.seq, at.kv_rows, col0, at.head_kv);
      const RowBlock<T> v = row_block<T>(p.v, at.seq, at.kv_rows, col0, at.head_kv);
      ScoreTile s;
      s.fill(Acc(0));
      product.add(s, q, k, p.head_dim_qk, warp_row, 0, [&] {
        load_tile_any<kThreads>(params.wide, v_tile, v.data + at.col, v.stride, v.valid, at.cols, ctx.tid);
      });
      score.transform(s, lane, row0, col0, visible.seqlen_q(), visible.seqlen_kv());
      if (!blocks.is_full(n)) mask_tile(s, lane, visible, row0, col0);
      softmax.update(s, o);
      if (dropout.enabled()) drop_tile(s, lane, dropout, row0, col0);
      copy_wait<0>();
      block_sync();  // v has arrived for all
      mma_rn(o, s, v_tile, 0, lane);
      block_sync();  // all are done with v
    }
    const Acc sink = p.softmax_offset != nullptr ? static_cast<Acc>(p.softmax_offset[at.block.head]) : Acc(0);
    softmax.finish(o, lse, p.has_sink, sink, static_cast<Acc>(dropout.keep_scale));
  }

  // Rows past the sequence get 0 and -inf.
  static PA_DEVICE void store(const UnfusedParams& params, const Place& at, const BlockCtx& ctx, const OutTile& o,
                              const RowValues<ScoreTile>& lse) {
    const AttnParams& p = params.attn;
    const int lane = ctx.tid % Arch::kWarpSize, warp_row = ctx.tid / Arch::kWarpSize * kWarpRows;
    const SmemO staging(ctx.smem);
    store_acc(staging, o, warp_row, 0, lane);
    if (at.block.chunk == 0 && p.lse.data != nullptr && ScoreTile::Layout::col(lane, 0) == 0) {
      PA_UNROLL
      for (int s = 0; s < ScoreTile::kRowSlots; ++s) {
        const int32_t r = warp_row + ScoreTile::Layout::row(lane, s);
        if (r >= at.tile.total) continue;
        *row_pointer<float>(p.lse, at.seq, at.q_rows, at.tile.first + r, at.block.head) =
            r < at.tile.valid ? static_cast<float>(lse[s]) : neg_inf<float>();
      }
    }
    block_sync();  // all of o is staged
    store_tile_any<kThreads>(params.wide,
                             row_pointer<T>(p.o, at.seq, at.q_rows, at.tile.first, at.block.head) + at.col,
                             p.o.token_stride, staging, at.tile.valid, at.tile.total, at.cols, ctx.tid);
  }
};

template <class T>
int run_unfused_fwd(const AttnParams& p, void* stream) {
  const bool wide = has_wide_rows(p.q, p.head_dim_qk, sizeof(T)) && has_wide_rows(p.k, p.head_dim_qk, sizeof(T)) &&
                    has_wide_rows(p.v, p.head_dim_v, sizeof(T)) && has_wide_rows(p.o, p.head_dim_v, sizeof(T));
  return launch_unfused<UnfusedFwd<T>>(p, p.q_side, kUnfusedBlockQ, p.num_heads_q, p.head_dim_v, wide, stream);
}

}  // namespace portattn
