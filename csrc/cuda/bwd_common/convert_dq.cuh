// dq [t, h, d_qk] = the dq scratch (attn/params.h) back in row order, rounded once to the dtype; padding rows 0.
//
// The scratch keeps rows r and r + 8 of a 16-row group side by side. So a token in the first half of its group brings
// its partner 8 tokens on along, and tokens of the second half have nothing to do.
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
  static constexpr int kCols = 8;  // columns of a row that a thread converts at a time

  // A token to write: from the scratch, with its partner if it has one, or zero.
  struct Job {
    int token;           // in the block's tokens
    const float* block;  // scratch of the token's group and head 0; null for padding
    int row;             // the token's row in it, < 8
    bool has_partner;
  };
  struct Shared {
    BlockTokens tokens;
    Job jobs[RowWalk::kTokens];
    int num_jobs;
  };

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem);
    find_jobs(p, shared, ctx);
    const RowWalk walk(ceil_div(p.head_dim_qk, kCols), ctx.tid);
    for (int r = walk.first; r < shared.num_jobs * p.num_heads_q; r += walk.step) {
      const Job job = shared.jobs[r % shared.num_jobs];
      const int head = r / shared.num_jobs;
      T* out = shared.tokens.row[job.token].template pointer<T>(p.dq, head);
      const float* block = job.block;
      if (block != nullptr) block += static_cast<int64_t>(head) * DqScratch::kRows * p.head_dim_qk;
      for (int d = walk.lane * kCols; d < p.head_dim_qk; d += walk.team * kCols) {
        float upper[kCols] = {}, lower[kCols] = {};
        if (block != nullptr) load_scratch(block, job.row, d, upper, lower);
        write(out + d, upper, params.wide);
        if (job.has_partner) write(out + d + p.dq.token_stride * kCols, lower, params.wide);
      }
    }
  }

 private:
  static_assert(kCols == DqScratch::kRows / 2, "the partner is as many rows on as a thread converts columns");

  // Thread 0 lists them: a block has few tokens.
  static PA_DEVICE void find_jobs(const AttnParams& p, Shared& shared, const BlockCtx& ctx) {
    const int count = shared.tokens.place(p.q_side, p.batch, ctx);
    if (ctx.tid == 0) {
      shared.num_jobs = 0;
      for (int t = 0; t < count; ++t) {
        Job job{t, nullptr, 0, false};
        const int32_t seq = shared.tokens.seq[t];
        if (seq >= 0) {
          const SeqRows rows = seq_rows(p.q_side, p.batch, seq);
          const int64_t row = shared.tokens.row[t].token - rows.start;
          job.row = static_cast<int>(row % DqScratch::kRows);
          if (job.row >= kCols) continue;  // its partner brings it along
          job.block = dq_scratch(p, seq, rows, 0) + row / DqScratch::kRows * dq_scratch_step(p);
          job.has_partner = row + kCols < rows.len;
        }
        shared.jobs[shared.num_jobs++] = job;
      }
    }
    block_sync();  // the jobs are listed
  }

  static PA_DEVICE void write(T* out, const float (&x)[kCols], bool wide) {
    constexpr int kVec = Vec16<T>::kSize;
    PA_UNROLL
    for (int i = 0; i < kCols; i += kVec) {
      Vec16<T> v;
      PA_UNROLL
      for (int j = 0; j < kVec; ++j) v.data[j] = from_acc<T>(x[i + j]);
      store_vec(out + i, v, kVec, wide);
    }
  }
};

template <class T>
int run_convert_dq(const AttnParams& p, void* stream) {
  const ConvertDqParams params{p, rows_aligned(p.dq, p.head_dim_qk, sizeof(T), 16)};
  return launch<ConvertDqKernel<T>>(params, RowWalk::grid(p.q_side, p.batch),
                                    sizeof(typename ConvertDqKernel<T>::Shared), stream);
}

}  // namespace portattn
