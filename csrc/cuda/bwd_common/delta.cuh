// delta [t, h] = rowsum(do * o), 0 outside every sequence, where o and do are not read; and the dq scratch = 0.
#pragma once

#include "bwd_common/row_walk.cuh"

namespace portattn {

struct DeltaParams {
  AttnParams attn;
  bool wide;  // o and do can be read in 16-byte vectors
};

template <class T>
struct DeltaKernel {
  using Params = DeltaParams;
  using Acc = AccOf<T>;
  static constexpr int kThreads = RowWalk::kThreads;
  static constexpr int kMinBlocks = 1;
  static constexpr int kSmemBytes = sizeof(BlockTokens);

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    BlockTokens& tokens = *reinterpret_cast<BlockTokens*>(ctx.smem);
    const int count = tokens.place(params.attn.q_side, params.attn.batch, ctx);
    write_delta(params, tokens, count, ctx.tid);
    if (params.attn.dq_accum.data != nullptr) zero_accum(params.attn, ctx);
  }

 private:
  // Rows that a team reads at once, so that enough loads are in flight.
  static constexpr int kRows = kWarpSize == 1 ? 1 : 4;

  // A (token, head) row; `reads` is false for padding, whose o and do are not read, and past the last row.
  struct Row {
    bool exists, reads;
    const T *o, *d_o;
    float* delta;

    PA_DEVICE Row(const AttnParams& p, const BlockTokens& tokens, int r, int rows) : exists(r < rows) {
      const int t = exists ? r / p.num_heads_q : 0, head = exists ? r % p.num_heads_q : 0;
      reads = exists && tokens.seq[t] >= 0;
      o = tokens.row[t].template pointer<const T>(p.o, head);
      d_o = tokens.row[t].template pointer<const T>(p.d_o, head);
      delta = tokens.row[t].template pointer<float>(p.delta, head);
    }
  };

  static PA_DEVICE void write_delta(const DeltaParams& params, const BlockTokens& tokens, int count, int tid) {
    const AttnParams& p = params.attn;
    constexpr int kVec = Vec16<T>::kSize;
    const RowWalk walk(ceil_div(p.head_dim_v, kVec), tid);
    const int num_rows = count * p.num_heads_q, stride = walk.step * kRows;
    // Rounded up, so that all lanes of a warp reach every sum.
    for (int r = walk.first; r < ceil_div(num_rows, stride) * stride; r += stride) {
      Acc sums[kRows] = {};
      for (int d = walk.lane * kVec; d < p.head_dim_v; d += walk.team * kVec) {
        Vec16<T> x[kRows] = {}, y[kRows] = {};
        PA_UNROLL
        for (int i = 0; i < kRows; ++i) {
          const Row row(p, tokens, r + i * walk.step, num_rows);
          if (!row.reads) continue;
          x[i] = load_vec(row.o + d, p.head_dim_v - d, params.wide);
          y[i] = load_vec(row.d_o + d, p.head_dim_v - d, params.wide);
        }
        PA_UNROLL
        for (int i = 0; i < kRows; ++i) sums[i] += dot(x[i], y[i]);
      }
      PA_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const Acc sum = walk.team_sum(sums[i]);
        const Row row(p, tokens, r + i * walk.step, num_rows);
        if (row.exists && walk.lane == 0) *row.delta = static_cast<float>(sum);
      }
    }
  }

  static PA_DEVICE Acc dot(const Vec16<T>& x, const Vec16<T>& y) {
    Acc sum = Acc(0);
    PA_UNROLL
    for (int i = 0; i < Vec16<T>::kSize; ++i) sum += static_cast<Acc>(to_float(x.data[i])) * to_float(y.data[i]);
    return sum;
  }

  // Blocks take groups of the scratch in turn; a group is one contiguous piece.
  static PA_DEVICE void zero_accum(const AttnParams& p, const BlockCtx& ctx) {
    constexpr int kVec = Vec16<float>::kSize;
    const int64_t groups = dq_scratch_groups(p.q_side.is_thd, p.q_side.seqlen, p.batch);
    const int64_t vectors = dq_scratch_step(p) / kVec;
    const Vec16<float> zero = {};
    for (int64_t group = ctx.x; group < groups; group += ctx.grid_x) {
      Vec16<float>* out = reinterpret_cast<Vec16<float>*>(p.dq_accum.data) + group * vectors;
      for (int64_t i = ctx.tid; i < vectors; i += kThreads) out[i] = zero;
    }
  }
};

template <class T>
int run_delta(const AttnParams& p, void* stream) {
  const DeltaParams params{
      p, rows_aligned(p.o, p.head_dim_v, sizeof(T), 16) && rows_aligned(p.d_o, p.head_dim_v, sizeof(T), 16)};
  return launch<DeltaKernel<T>>(params, RowWalk::grid(p.q_side, p.batch), DeltaKernel<T>::kSmemBytes, stream);
}

}  // namespace portattn
