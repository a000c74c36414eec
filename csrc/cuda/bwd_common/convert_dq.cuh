// dq = dq_accum rounded once to the dtype. Rows outside every sequence are 0 in dq_accum and so in dq.
#pragma once

#include "bwd_common/row_walk.cuh"

namespace portattn {

struct ConvertDqParams {
  AttnParams attn;
  bool wide;  // dq_accum and dq can be accessed in 16-byte vectors
};

template <class T>
struct ConvertDqKernel {
  using Params = ConvertDqParams;
  static constexpr int kThreads = RowWalk::kThreads;
  static constexpr int kMinBlocks = 1;

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    constexpr int kVec = Vec16<T>::kSize;
    BlockTokens& tokens = *reinterpret_cast<BlockTokens*>(ctx.smem);
    const int count = tokens.place(p.q_side, p.batch, ctx);
    const RowWalk walk(ceil_div(p.head_dim_qk, kVec), ctx.tid);
    for (int r = walk.first; r < count * p.num_heads_q; r += walk.step) {
      const TokenRow& row = tokens.row[r / p.num_heads_q];
      const float* in = row.template pointer<const float>(p.dq_accum, r % p.num_heads_q);
      T* out = row.template pointer<T>(p.dq, r % p.num_heads_q);
      for (int d = walk.lane * kVec; d < p.head_dim_qk; d += walk.team * kVec) {
        store_vec(out + d, round_vec(in + d, p.head_dim_qk - d, params.wide), p.head_dim_qk - d, params.wide);
      }
    }
  }

 private:
  static PA_DEVICE Vec16<T> round_vec(const float* in, int n, bool wide) {
    constexpr int kIn = Vec16<float>::kSize, kOut = Vec16<T>::kSize;
    Vec16<T> out;
    PA_UNROLL
    for (int i = 0; i < kOut; i += kIn) {
      const Vec16<float> x = load_vec(in + i, n - i, wide);
      PA_UNROLL
      for (int j = 0; j < min_of(kIn, kOut); ++j) out.data[i + j] = from_acc<T>(x.data[j]);
    }
    return out;
  }
};

template <class T>
int run_convert_dq(const AttnParams& p, void* stream) {
  const ConvertDqParams params{p, rows_aligned(p.dq, p.head_dim_qk, sizeof(T), 16) &&
                                      rows_aligned(p.dq_accum, p.head_dim_qk, sizeof(float), 16)};
  return launch<ConvertDqKernel<T>>(params, RowWalk::grid(p.q_side, p.batch), sizeof(BlockTokens), stream);
}

}  // namespace portattn
