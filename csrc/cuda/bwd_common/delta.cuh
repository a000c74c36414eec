// delta [t, h] = rowsum(do * o), 0 outside every sequence, where o and do are not read; the row stats, which repeat it
// beside lse for kernels that want them so; and the dq scratch and the counter of work (AttnParams::next_item) = 0.
// Where what comes first to the scratch is stored, only rows that nothing comes to; where the kernel writes dq, rows of
// dq that see nothing, and padding. And the words of turns = 0.
//
// A block takes a few tokens with all their heads. A team of lanes takes one (token, head) row at a time, its lanes the
// row's 16-byte vectors in turn. Memory is all that counts: small blocks, of few registers, read and zero side by side.
#pragma once

#include "attn/visibility.cuh"
#include "bwd_common/scratch_row.cuh"
#include "bwd_common/token_block.cuh"
#include "device/vector.cuh"
#include "device/warp.cuh"

namespace portattn {

struct DeltaParams {
  AttnParams attn;
  FastDivisor heads;
};

// The lanes that share a row: the fewest, a power of two, that read `vectors` at once.
template <int Threads>
struct RowTeam {
  static constexpr int kMaxLanes = kWarpSize < 16 ? kWarpSize : 16;  // the largest power of two for small heads

  int lanes, lane, first, step;

  PA_DEVICE RowTeam(int32_t vectors, int tid) {
    lanes = 1;
    while (lanes < kMaxLanes && lanes < vectors) lanes *= 2;
    lane = tid % lanes;
    first = tid / lanes;
    step = Threads / lanes;
  }

  // Sum over the team; every lane of the warp must call it.
  template <class V>
  PA_DEVICE V sum(V v) const {
    for (int mask = lanes / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
  }
};

// Where a token's dq has to be zeroed, head 0: in the scratch, if the token sees no key; or, if the kernel writes dq,
// there, if it is padding, too.
template <class T>
struct Unseen {
  float* scratch;
  T* dq;
};

// IsWide: o and do can be read in 16-byte vectors. A block takes NumTokens.
template <class T, bool IsWide, int NumTokens>
struct DeltaKernel : StartsEarly {
  using Params = DeltaParams;
  using Acc = AccOf<T>;
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 256;
  static constexpr int kMinBlocks = IsWide ? 8 : 4;
  static constexpr int kTokens = NumTokens;
  static constexpr int kSums = kWarpSize == 1 ? Vec16<T>::kSize : 1;  // side by side in a CPU's vector registers
  using Tokens = TokenBlock<kThreads, kTokens>;

  // Of the block's tokens and head 0; o, d_o and stats null for padding.
  struct Shared {
    const T* o[kTokens];
    const T* d_o[kTokens];
    float* delta[kTokens];
    const float* lse[kTokens];
    float* stats[kTokens];
    Unseen<T> unseen[kTokens];
  };

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    await_previous_kernel();
    let_next_kernel_start();
    const AttnParams& p = params.attn;
    if (p.next_item != nullptr && ctx.x == 0 && ctx.tid == 0) *p.next_item = 0;
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem);
    const int count =
        Tokens::place(p.q_side, p.batch, ctx.x, ctx.tid, [&](int t, const TokenRow& row, int32_t sequence) {
          shared.o[t] = sequence < 0 ? nullptr : row.template pointer<const T>(p.o, 0);
          shared.d_o[t] = sequence < 0 ? nullptr : row.template pointer<const T>(p.d_o, 0);
          shared.delta[t] = row.template pointer<float>(p.delta, 0);
          shared.unseen[t] = unseen_row(p, row, sequence);
          shared.stats[t] = nullptr;
          if (p.row_stats.data == nullptr || sequence < 0) return;
          const SeqRows rows = seq_rows(p.q_side, p.batch, sequence);
          shared.lse[t] = row.template pointer<const float>(p.lse, 0);
          shared.stats[t] = row_stats(p, sequence, rows, 0) + (row.token - rows.start);
        });
    write_delta(params, shared, count, ctx.tid);
    if (p.dq_accum.turns != nullptr) zero_turns(p, ctx);
    if (has_unseen(p)) zero_unseen(p, shared, count, ctx.tid);
    if (p.dq_accum.data != nullptr && !p.dq_accum.use.stores_first) zero_accum(p, ctx);
    if (p.row_stats.data == nullptr) return;
    block_sync();  // delta is written
    write_stats(p, shared, count, ctx.tid);
  }

 private:
  // Whether the kernel leaves rows of dq out, or of the scratch.
  static PA_DEVICE bool has_unseen(const AttnParams& p) {
    return p.dq_accum.use.stores_first || p.dq_accum.use.writes_dq;
  }

  static PA_DEVICE Unseen<T> unseen_row(const AttnParams& p, const TokenRow& token, int32_t seq) {
    Unseen<T> unseen{nullptr, nullptr};
    if (!has_unseen(p)) return unseen;
    if (seq >= 0) {
      const SeqRows rows = seq_rows(p.q_side, p.batch, seq);
      const auto row = static_cast<int32_t>(token.token - rows.start);
      const KeyRange keys = Visibility(p, rows.len, seq_rows(p.kv_side, p.batch, seq).len).keys(row);
      if (keys.lo < keys.hi) return unseen;
      if (!p.dq_accum.use.writes_dq) unseen.scratch = scratch_row(p, seq, rows, row);
    }
    if (p.dq_accum.use.writes_dq) unseen.dq = token.template pointer<T>(p.dq, 0);
    return unseen;
  }

  static PA_DEVICE void zero_unseen(const AttnParams& p, const Shared& shared, int count, int tid) {
    for (int t = 0; t < count; ++t) {
      const Unseen<T> unseen = shared.unseen[t];
      if (unseen.scratch == nullptr && unseen.dq == nullptr) continue;
      PA_NO_UNROLL
      for (int i = tid; i < p.num_heads_q * p.head_dim_qk; i += kThreads) {
        const int head = i / p.head_dim_qk, d = i % p.head_dim_qk;
        if (unseen.dq != nullptr) {
          unseen.dq[head * p.dq.head_stride + d] = T();
        } else {
          unseen.scratch[int64_t{head} * DqScratch::kRows * p.head_dim_qk + Arch::ScratchLayout::offset(0, d)] = 0.f;
        }
      }
    }
  }

  static PA_DEVICE void write_delta(const DeltaParams& params, const Shared& shared, int count, int tid) {
    const AttnParams& p = params.attn;
    const RowTeam<kThreads> team(ceil_div(p.head_dim_v, Vec16<T>::kSize), tid);
    const int rows = count * p.num_heads_q;
    // Rounded up, so that all lanes of a warp reach every sum.
    PA_NO_UNROLL
    for (int r = team.first; r < ceil_div(rows, team.step) * team.step; r += team.step) {
      const int t = r < rows ? fast_divide(r, params.heads) : 0, head = r - t * p.num_heads_q;
      const bool reads = r < rows && shared.o[t] != nullptr;
      const Acc sum = team.sum(
          reads ? lane_sum(shared.o[t] + head * p.o.head_stride, shared.d_o[t] + head * p.d_o.head_stride, p, team)
                : Acc(0));
      if (r < rows && team.lane == 0) shared.delta[t][head * p.delta.head_stride] = static_cast<float>(sum);
    }
  }

  static PA_DEVICE Acc lane_sum(const T* o, const T* d_o, const AttnParams& p, const RowTeam<kThreads>& team) {
    constexpr int kVec = Vec16<T>::kSize;
    Acc sums[kSums] = {};
    PA_NO_UNROLL
    for (int d = team.lane * kVec; d < p.head_dim_v; d += team.lanes * kVec) {
      const Vec16<T> x = load_vec(o + d, p.head_dim_v - d, IsWide), y = load_vec(d_o + d, p.head_dim_v - d, IsWide);
      PA_UNROLL
      for (int i = 0; i < kVec; ++i) sums[i % kSums] += static_cast<Acc>(to_float(x.data[i])) * to_float(y.data[i]);
    }
    Acc sum = Acc(0);
    PA_UNROLL
    for (int i = 0; i < kSums; ++i) sum += sums[i];
    return sum;
  }

  // From delta as it has just been written: threads that follow each other take tokens that do, and write whole
  // sectors.
  static PA_DEVICE void write_stats(const AttnParams& p, const Shared& shared, int count, int tid) {
    const int64_t to_delta = row_stats_delta(p), head_rows = to_delta / p.num_heads_q;
    PA_NO_UNROLL
    for (int i = tid; i < p.num_heads_q * kTokens; i += kThreads) {
      const int t = i % kTokens, head = i / kTokens;
      if (t >= count || shared.stats[t] == nullptr) continue;
      const float lse = shared.lse[t][head * p.lse.head_stride];
      float* out = shared.stats[t] + head * head_rows;
      out[0] = lse == neg_inf<float>() ? -neg_inf<float>() : lse * static_cast<float>(kLog2e);
      out[to_delta] = -shared.delta[t][head * p.delta.head_stride];
    }
  }

  // Blocks take pieces of the scratch in turn, each as much as its tokens need.
  static PA_DEVICE void zero_accum(const AttnParams& p, const BlockCtx& ctx) {
    constexpr int kVec = Vec16<float>::kSize;
    const int64_t vectors = dq_scratch_groups(p.q_side.is_thd, p.q_side.seqlen, p.batch) * dq_scratch_step(p) / kVec;
    const int64_t piece = dq_scratch_step(p) / DqScratch::kRows * kTokens / kVec;
    for (int64_t first = ctx.x * piece; first < vectors; first += ctx.grid_x * piece) {
      Vec16<float>* out = reinterpret_cast<Vec16<float>*>(p.dq_accum.data) + first;
      const int64_t count = min_of(piece, vectors - first);
      for (int64_t i = ctx.tid; i < count; i += kThreads) out[i] = Vec16<float>{};
    }
  }

  static PA_DEVICE void zero_turns(const AttnParams& p, const BlockCtx& ctx) {
    const int64_t groups = dq_scratch_groups(p.q_side.is_thd, p.q_side.seqlen, p.batch);
    const int64_t words = groups * p.num_heads_q * DqScratch::kTurns;
    for (int64_t i = int64_t{ctx.x} * kThreads + ctx.tid; i < words; i += int64_t{ctx.grid_x} * kThreads) {
      p.dq_accum.turns[i] = 0;
    }
  }
};

template <class T, bool IsWide, int Tokens>
int run_delta(const AttnParams& p, void* stream) {
  using Kernel = DeltaKernel<T, IsWide, Tokens>;
  const DeltaParams params{p, make_fast_divisor(static_cast<uint32_t>(p.num_heads_q))};
  // One block at least: without queries, too, kernels may take work.
  const int64_t blocks = max_of<int64_t>(Kernel::Tokens::count(p.q_side, p.batch), 1);
  return launch<Kernel>(params, Grid{blocks, 1}, sizeof(typename Kernel::Shared), stream);
}

constexpr int kFewTokens = 4, kManyTokens = 8, kManyBlocks = 2048;

template <class T>
int run_delta(const AttnParams& p, void* stream) {
  const bool is_wide =
      rows_aligned(p.o, p.head_dim_v, sizeof(T), 16) && rows_aligned(p.d_o, p.head_dim_v, sizeof(T), 16);
  if (!is_wide) return run_delta<T, false, kFewTokens>(p, stream);
  // Where nothing is zeroed, reading is all: larger blocks find more of it to do at a time, if there are enough of
  // them. As in convert_dq.cuh, only 16-bit types on some archs have such kernels.
  if constexpr (!std::is_void_v<typename Arch::TransposedScratchLayout> && sizeof(T) == 2) {
    const bool has_many = num_token_rows(p.q_side, p.batch) >= int64_t{kManyTokens} * kManyBlocks;
    if (has_many && p.dq_accum.use.stores_first) return run_delta<T, true, kManyTokens>(p, stream);
  }
  return run_delta<T, true, kFewTokens>(p, stream);
}

}  // namespace portattn
