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
  static PA_DEVICE void write_delta(const DeltaParams& params, const BlockTokens& tokens, int count, int tid) {
    const AttnParams& p = params.attn;
    constexpr int kVec = Vec16<T>::kSize;
    const RowWalk walk(ceil_div(p.head_dim_v, kVec), tid);
    const int rows = count * p.num_heads_q;
    // Rounded up, so that all lanes of a warp reach every sum.
    for (int r = walk.first; r < ceil_div(rows, walk.step) * walk.step; r += walk.step) {
      const int t = r < rows ? r / p.num_heads_q : 0, head = r % p.num_heads_q;
      const TokenRow& row = tokens.row[t];
      const int dim = r < rows && tokens.seq[t] >= 0 ? p.head_dim_v : 0;
      const T* o = row.template pointer<const T>(p.o, head);
      const T* d_o = row.template pointer<const T>(p.d_o, head);
      Acc sums[kVec] = {};
      for (int d = walk.lane * kVec; d < dim; d += walk.team * kVec) {
        const Vec16<T> x = load_vec(o + d, dim - d, params.wide), y = load_vec(d_o + d, dim - d, params.wide);
        PA_UNROLL
        for (int i = 0; i < kVec; ++i) sums[i] += static_cast<Acc>(to_float(x.data[i])) * to_float(y.data[i]);
      }
      Acc sum = Acc(0);
      PA_UNROLL
      for (int i = 0; i < kVec; ++i) sum += sums[i];
      sum = walk.team_sum(sum);
      if (r < rows && walk.lane == 0) *row.template pointer<float>(p.delta, head) = static_cast<float>(sum);
    }
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
