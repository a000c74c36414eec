// dq [t, h, d_qk] = the dq scratch (attn/params.h) back in row order, rounded once to the dtype; padding rows 0.
#pragma once

#include "bwd_common/row_walk.cuh"
#include "tile/arch_select.cuh"

namespace portattn {

struct ConvertDqParams {
  AttnParams attn;
  bool wide;  // dq can be written in 16-byte vectors
};

template <class T>
struct ConvertDqKernel {
  using Params = ConvertDqParams;
  static constexpr int kThreads = RowWalk::kThreads;
  static constexpr int kMinBlocks = 1;

  struct Shared {
    BlockTokens tokens;
    const float* block[RowWalk::kTokens];  // scratch of the token's group and head 0; null for padding
    int row[RowWalk::kTokens];             // the token's row in it
  };

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    constexpr int kVec = Vec16<T>::kSize;
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem);
    const int count = place(p, shared, ctx);
    const RowWalk walk(ceil_div(p.head_dim_qk, kVec), ctx.tid);
    for (int r = walk.first; r < count * p.num_heads_q; r += walk.step) {
      // Heads outside, so that rows 8 apart, whose scratch shares sectors, are read close together.
      const int t = r % count, head = r / count;
      const float* block = shared.block[t];
      if (block != nullptr) block += static_cast<int64_t>(head) * DqScratch::kRows * p.head_dim_qk;
      T* out = shared.tokens.row[t].template pointer<T>(p.dq, head);
      for (int d = walk.lane * kVec; d < p.head_dim_qk; d += walk.team * kVec) {
        store_vec(out + d, gather(block, shared.row[t], d), p.head_dim_qk - d, params.wide);
      }
    }
  }

 private:
  static PA_DEVICE int place(const AttnParams& p, Shared& shared, const BlockCtx& ctx) {
    const int count = shared.tokens.place(p.q_side, p.batch, ctx);
    for (int t = ctx.tid; t < count; t += kThreads) {
      const int32_t seq = shared.tokens.seq[t];
      shared.block[t] = nullptr;
      if (seq < 0) continue;
      const SeqRows rows = seq_rows(p.q_side, p.batch, seq);
      const int64_t row = shared.tokens.row[t].token - rows.start;
      shared.block[t] = dq_scratch(p, seq, rows, 0) + row / DqScratch::kRows * dq_scratch_step(p);
      shared.row[t] = static_cast<int>(row % DqScratch::kRows);
    }
    block_sync();  // all tokens know their place in the scratch
    return count;
  }

  // Pairs of columns are neighbours in every arch's ScratchLayout.
  static PA_DEVICE Vec16<T> gather(const float* block, int row, int col) {
    struct alignas(8) Pair {
      float x, y;
    };
    Vec16<T> out = {};
    if (block == nullptr) return out;
    PA_UNROLL
    for (int i = 0; i + 1 < Vec16<T>::kSize; i += 2) {
      const Pair pair = *reinterpret_cast<const Pair*>(block + Arch::ScratchLayout::offset(row, col + i));
      out.data[i] = from_acc<T>(pair.x);
      out.data[i + 1] = from_acc<T>(pair.y);
    }
    return out;
  }
};

template <class T>
int run_convert_dq(const AttnParams& p, void* stream) {
  const ConvertDqParams params{p, rows_aligned(p.dq, p.head_dim_qk, sizeof(T), 16)};
  return launch<ConvertDqKernel<T>>(params, RowWalk::grid(p.q_side, p.batch),
                                    sizeof(typename ConvertDqKernel<T>::Shared), stream);
}

}  // namespace portattn
