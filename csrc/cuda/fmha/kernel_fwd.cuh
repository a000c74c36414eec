// Fused forward kernel: scheduler -> pipeline -> epilogue for one (query tile, head).
//   q [t_q, h, d_qk], k [t_kv, h_kv, d_qk], v [t_kv, h_kv, d_v] -> o [t_q, h, d_v], lse [t_q, h]
// Grid: x = query tiles over all sequences, y = query heads.
#pragma once

#include <new>

#include "attn/work_tile.cuh"
#include "device/launch.cuh"
#include "fmha/epilogue.cuh"
#include "fmha/pipeline/fwd_generic.cuh"

namespace portattn {

template <class ProblemType>
struct FmhaFwd {
  using Problem = ProblemType;
  using Params = AttnParams;
  using T = typename Problem::Element;
  using Acc = typename Problem::Acc;
  static constexpr int kThreads = Problem::kThreads;
  static constexpr int kMinBlocks = Problem::kMinBlocks;
  static constexpr int32_t kPlannedRows = Problem::kBlockQ;

  PA_DEVICE void operator()(const AttnParams& p, const BlockCtx& ctx) const {
    WorkTile work;
    const bool longest_last = p.window_right >= 0;
    if (!next_tile(p.q_side, Problem::kBlockQ, ctx.x, longest_last, work)) return;
    const int32_t head = ctx.y;
    const SeqRows q_rows = seq_rows(p.q_side, p.batch, work.seq);
    const TileRows rows(q_rows, work.block, Problem::kBlockQ);
    if (rows.valid == 0) {
      Epilogue::store_padding(p, rows, q_rows, work.seq, head, ctx.smem, ctx.tid);
      return;
    }
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem + Problem::kTileBytes);
    if (ctx.tid == 0) {
      // By way of a local: a returned struct that is built in place goes to private memory on AMD, wherever its place is.
      const auto tile = make_tile(p, work.seq, head, q_rows, rows);
      new (&shared) Shared{tile, q_rows, rows, work.seq};
    }
    block_sync();  // thread 0 has described the tile; all read it from here on

    typename Problem::OutTile o;
    OnlineSoftmax<typename Problem::ScoreTile> softmax(shared.tile.score.exp_scale());
    FwdGeneric<Problem>(p, ctx.smem, ctx.tid).run(shared.tile, softmax, o);

    RowValues<typename Problem::ScoreTile> lse;
    const Acc sink = p.softmax_offset != nullptr ? static_cast<Acc>(p.softmax_offset[head]) : Acc(0);
    softmax.finish(o, lse, p.has_sink, sink, static_cast<Acc>(shared.tile.dropout.keep_scale));
    Epilogue::store(p, shared.rows, shared.q_rows, shared.seq, head, o, lse, ctx.smem, ctx.tid);
  }

 private:
  using Epilogue = FwdEpilogue<Problem>;
  struct Shared {
    FwdTile<T, Problem::kExtras> tile;
    SeqRows q_rows;
    TileRows rows;
    int32_t seq;
  };

  static PA_DEVICE FwdTile<T, Problem::kExtras> make_tile(const AttnParams& p, int32_t seq, int32_t head,
                                                          const SeqRows& q_rows, const TileRows& rows) {
    const int32_t head_kv = head / (p.num_heads_q / p.num_heads_kv);
    const SeqRows kv_rows = seq_rows(p.kv_side, p.batch, seq);
    const Visibility visible(p, q_rows.len, kv_rows.len);
    return FwdTile<T, Problem::kExtras>{row_pointer<const T>(p.q, seq, q_rows, rows.first, head),
                                        row_pointer<const T>(p.k, seq, kv_rows, 0, head_kv),
                                        row_pointer<const T>(p.v, seq, kv_rows, 0, head_kv),
                                        rows.first,
                                        rows.valid,
                                        key_blocks(visible, rows.first, rows.valid, Problem::kBlockKv),
                                        visible,
                                        Score<T, Problem::kExtras>(p, seq, head, visible.offset()),
                                        make_dropout(p, seq, head)};
  }

 public:
  static constexpr int kSmemBytes = Problem::kTileBytes + static_cast<int>(sizeof(Shared));
  static_assert(kSmemBytes <= Arch::kMaxSmemBytes, "a block has that much shared memory");
};

template <class Kernel>
int launch_fmha_fwd(const AttnParams& p, void* stream) {
  using Problem = typename Kernel::Problem;
  const Grid grid{num_tile_blocks(p.q_side, p.batch, Problem::kBlockQ), p.num_heads_q};
  return launch<Kernel>(p, grid, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
