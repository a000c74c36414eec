// dbias [1|b, 1|h, 1|s_q, s_kv] = sum of dscore over the dimensions that the bias is broadcast along (times the scale
// for a bias added before it). One block a 64 x 64 tile of dbias (64 columns if the bias has one row) adds the
// sequences, heads and query blocks that share it in a fixed order, recomputing each score block.
#pragma once

#include <new>

#include "attn/score_grad.cuh"
#include "device/launch.cuh"

namespace portattn {

struct BiasGradParams {
  AttnParams attn;
  bool wide;
  int32_t blocks_q, blocks_kv;  // tiles of dbias
};

template <class T>
struct BiasGradKernel {
  using Params = BiasGradParams;
  using Acc = AccOf<T>;
  static constexpr int kWarpsM = Arch::kWarpSize == 1 ? 1 : 4;
  static constexpr int kWarpsN = Arch::kWarpSize == 1 ? 1 : 2;
  static constexpr int kThreads = kWarpsM * kWarpsN * Arch::kWarpSize;
  static constexpr int kMinBlocks = 1;
  using Grad = ScoreGrad<T, kWarpsM, kWarpsN>;
  using Tile = typename Grad::Tile;
  using SmemSum = SmemTile<Acc, kProductRows, kProductRows>;
  static constexpr int kTileBytes =
      Grad::Product::kSmemBytes > SmemSum::kBytes ? Grad::Product::kSmemBytes : SmemSum::kBytes;
  static constexpr int kSmemBytes = kTileBytes + static_cast<int>(sizeof(AttnGradHead<T>));

  // A tile of dbias and what is added into it.
  struct Place {
    int32_t q0, kv0;             // corner
    int32_t seq_begin, seq_end;  // sequences and heads that share the tile
    int32_t head_begin, head_end;
    bool one_row;  // query blocks share it, too
    PA_DEVICE Place(const Params& params, int32_t x) {
      const AttnParams& p = params.attn;
      const int32_t tile = x % (params.blocks_q * params.blocks_kv), entry = x / (params.blocks_q * params.blocks_kv);
      q0 = tile / params.blocks_kv * kProductRows;
      kv0 = tile % params.blocks_kv * kProductRows;
      const int32_t seq = entry / p.bias_shape[1], head = entry % p.bias_shape[1];
      seq_begin = p.bias_shape[0] == 1 ? 0 : seq;
      seq_end = p.bias_shape[0] == 1 ? p.batch : seq + 1;
      head_begin = p.bias_shape[1] == 1 ? 0 : head;
      head_end = p.bias_shape[1] == 1 ? p.num_heads_q : head + 1;
      one_row = p.bias_shape[2] == 1;
    }
  };

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    const Place at(params, ctx.x);
    Tile sum;
    sum.fill(Acc(0));
    PA_NO_UNROLL
    for (int32_t seq = at.seq_begin; seq < at.seq_end; ++seq) {
      PA_NO_UNROLL
      for (int32_t head = at.head_begin; head < at.head_end; ++head) add_head(params, at, seq, head, ctx, sum);
    }
    const Acc scale = p.bias_kind == BiasKind::kPreScale ? static_cast<Acc>(p.attn_scale) : Acc(1);
    T* out = static_cast<T*>(p.dbias.data) + at.seq_begin * p.dbias.batch_stride + at.head_begin * p.dbias.head_stride;
    if (at.one_row) {
      store_row(p, at, ctx, sum, scale, out);
    } else {
      store_tile_rows(p, at, ctx, sum, scale, out);
    }
  }

 private:
  static PA_DEVICE void add_head(const Params& params, const Place& at, int32_t seq, int32_t head, const BlockCtx& ctx,
                                 Tile& sum) {
    const AttnParams& p = reread(params).attn;
    const SeqRows q_rows = seq_rows(p.q_side, p.batch, seq), kv_rows = seq_rows(p.kv_side, p.batch, seq);
    if (at.q0 >= q_rows.len || at.kv0 >= kv_rows.len) return;
    AttnGradHead<T>& shared = *reinterpret_cast<AttnGradHead<T>*>(ctx.smem + kTileBytes);
    block_sync();  // all are done with the last head
    if (ctx.tid == 0) new (&shared) AttnGradHead<T>(p, seq, head, q_rows, kv_rows);
    block_sync();  // thread 0 has described this one; all read it from here on
    const int32_t q_end = at.one_row ? q_rows.len : min_of(q_rows.len, at.q0 + kProductRows);
    PA_NO_UNROLL
    for (int32_t q0 = at.q0; q0 < q_end; q0 += kProductRows) {
      const BlockRange keys = key_blocks(shared.visible, q0, min_of(q_rows.len - q0, kProductRows), kProductRows);
      if (at.kv0 / kProductRows < keys.begin || at.kv0 / kProductRows >= keys.end) continue;
      Tile prob, ds;
      Grad(p, params.wide, shared, ctx.smem, opaque(ctx.tid)).run(q0, at.kv0, prob, ds, [] {});
      PA_UNROLL
      for (int s = 0; s < Tile::kRowSlots; ++s) {
        PA_UNROLL
        for (int c = 0; c < Tile::kColSlots; ++c) sum.at(s, c) += ds.at(s, c);
      }
    }
  }

  static PA_DEVICE void store_tile_rows(const AttnParams& p, const Place& at, const BlockCtx& ctx, Tile& sum, Acc scale,
                                        T* out) {
    const typename Grad::Tiling tiling(ctx.tid / Arch::kWarpSize);
    for_each(sum, ctx.tid % Arch::kWarpSize, [&](Acc& x, int, int r, int c) {
      const int64_t i = at.q0 + tiling.row + r, j = at.kv0 + tiling.col + c;
      if (i < p.bias_shape[2] && j < p.bias_shape[3]) {
        out[i * p.dbias.row_stride + j * p.dbias.col_stride] = from_acc<T>(x * scale);
      }
    });
  }

  // Adds up the rows of the tile.
  static PA_DEVICE void store_row(const AttnParams& p, const Place& at, const BlockCtx& ctx, const Tile& sum, Acc scale,
                                  T* out) {
    const typename Grad::Tiling tiling(ctx.tid / Arch::kWarpSize);
    const SmemSum rows(ctx.smem);
    store_acc(rows, sum, tiling.row, tiling.col, ctx.tid % Arch::kWarpSize);
    block_sync();  // the whole tile is in shared memory
    for (int c = ctx.tid; c < kProductRows; c += kThreads) {
      Acc total = Acc(0);
      for (int r = 0; r < kProductRows; ++r) total += rows.at(r, c);
      if (at.kv0 + c < p.bias_shape[3]) out[(at.kv0 + c) * p.dbias.col_stride] = from_acc<T>(total * scale);
    }
  }
};

template <class T>
int run_bias_grad(const AttnParams& p, void* stream) {
  const BiasGradParams params{p, score_grad_has_wide_rows<T>(p), ceil_div(p.bias_shape[2], kProductRows),
                              ceil_div(p.bias_shape[3], kProductRows)};
  const int64_t blocks = int64_t{params.blocks_q} * params.blocks_kv * p.bias_shape[0] * p.bias_shape[1];
  return launch<BiasGradKernel<T>>(params, Grid{blocks, 1}, BiasGradKernel<T>::kSmemBytes, stream);
}

}  // namespace portattn
