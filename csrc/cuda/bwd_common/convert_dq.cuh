// dq [t, h, d_qk] = the dq scratch (attn/params.h) back in row order, rounded once to the dtype; padding rows 0.
//
// A block takes as many tokens as a block of the scratch has rows, and a section of their heads' 16-byte vectors.
// Threads that follow each other take tokens that do: those of a warp then read whole sectors of the scratch together.
#pragma once

#include "bwd_common/scratch_row.cuh"
#include "bwd_common/token_block.cuh"
#include "device/vector.cuh"

namespace portattn {

struct ConvertDqParams {
  AttnParams attn;
  FastDivisor head_vectors;  // 16-byte vectors of a head
  FastDivisor sections;      // of a token's vectors, all heads together
};

// Is an element of the scratch where its row, its vector and its place in the vector add up to, and are the
// columns of a pair always as far apart? Vectors are found and read so.
template <class Layout, int VectorSize>
constexpr bool scratch_adds_up() {
  for (int row = 0; row < DqScratch::kRows; ++row) {
    for (int col = 0; col < 16; ++col) {
      const int place = col % VectorSize, vector = col - place;
      const int pair = Layout::offset(0, place / 2 * 2) + place % 2 * Layout::offset(0, 1);
      const int sum = Layout::offset(row, 0) + Layout::offset(0, vector) + pair;
      if (Layout::offset(row, col) != sum) return false;
    }
  }
  return true;
}

// IsWide: dq can be written in 16-byte vectors. Layout: of the scratch.
template <class T, bool IsWide, class Layout>
struct ConvertDqKernel {
  using Params = ConvertDqParams;
  static constexpr int kTokens = DqScratch::kRows;
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 128;
  static constexpr int kMinBlocks = 12;
  static constexpr int kLanes = kThreads < kTokens ? 1 : kThreads / kTokens;  // that share a token
  static constexpr int kVectors = kWarpSize == 1 ? 64 : 2;  // of a lane and a token, read before one is written
  static constexpr int kSection = kLanes * kVectors;
  static_assert(scratch_adds_up<Layout, Vec16<T>::kSize>());
  using Tokens = TokenBlock<kThreads, kTokens>;

  struct Shared {
    T* to[kTokens];
    const float* from[kTokens];  // in the scratch; null for padding
  };

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    const AttnParams& p = params.attn;
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem);
    // From the end: what the kernel before added last is still in the L2 cache.
    const int32_t x = ctx.grid_x - 1 - ctx.x, tokens = fast_divide(x, params.sections);
    const int32_t section = x - tokens * static_cast<int32_t>(params.sections.divisor);
    const int count =
        Tokens::place(p.q_side, p.batch, tokens, ctx.tid,
                      [&](int t, const TokenRow& row, int32_t sequence) { place(p, row, sequence, t, shared); });
    for (int t = ctx.tid % kTokens; t < count; t += kThreads) {
      convert(params, shared.from[t], shared.to[t], section * kSection + ctx.tid / kTokens);
    }
  }

 private:
  // Column 0 of head 0.
  static PA_DEVICE void place(const AttnParams& p, const TokenRow& token, int32_t seq, int t, Shared& shared) {
    shared.to[t] = token.template pointer<T>(p.dq, 0);
    shared.from[t] = nullptr;
    if (seq < 0) return;
    const SeqRows rows = seq_rows(p.q_side, p.batch, seq);
    shared.from[t] = scratch_row<Layout>(p, seq, rows, token.token - rows.start);
  }

  // Vectors first, first + kLanes ... of a token, counted on from head to head as they lie in the scratch: heads are
  // whole strips of 8 columns.
  static PA_DEVICE void convert(const Params& params, const float* from, T* to, int32_t first) {
    const AttnParams& p = params.attn;
    constexpr int kVec = Vec16<T>::kSize;
    const int32_t per_head = static_cast<int32_t>(params.head_vectors.divisor), end = p.num_heads_q * per_head;
    Vec16<T> vectors[kVectors] = {};
    PA_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      const int32_t v = first + i * kLanes;
      if (from != nullptr && v < end) vectors[i] = gather(from + Layout::offset(0, v * kVec));
    }
    PA_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      const int32_t v = first + i * kLanes, head = fast_divide(v, params.head_vectors);
      const int32_t col = (v - head * per_head) * kVec;
      if (v < end) store_vec(to + head * p.dq.head_stride + col, vectors[i], p.head_dim_qk - col, IsWide);
    }
  }

  static PA_DEVICE Vec16<T> gather(const float* from) {
    constexpr int kNext = Layout::offset(0, 1);
    struct alignas(8) Pair {
      float x, y;
    };
    Vec16<T> out;
    PA_UNROLL
    for (int i = 0; i + 1 < Vec16<T>::kSize; i += 2) {
      const float* at = from + Layout::offset(0, i);
      const Pair pair = kNext == 1 ? *reinterpret_cast<const Pair*>(at) : Pair{at[0], at[kNext]};
      out.data[i] = from_acc<T>(pair.x);
      out.data[i + 1] = from_acc<T>(pair.y);
    }
    return out;
  }
};

template <class T, bool IsWide, class Layout>
int run_convert_dq_from(const AttnParams& p, void* stream) {
  using Kernel = ConvertDqKernel<T, IsWide, Layout>;
  const int32_t head_vectors = ceil_div(p.head_dim_qk, Vec16<T>::kSize);
  const int32_t sections = ceil_div(p.num_heads_q * head_vectors, Kernel::kSection);
  const ConvertDqParams params{p, make_fast_divisor(static_cast<uint32_t>(head_vectors)),
                               make_fast_divisor(static_cast<uint32_t>(sections))};
  return launch<Kernel>(params, Grid{Kernel::Tokens::count(p.q_side, p.batch) * sections, 1},
                        sizeof(typename Kernel::Shared), stream);
}

template <class T, bool IsWide>
int run_convert_dq(const AttnParams& p, void* stream) {
  using Transposed = typename Arch::TransposedScratchLayout;
  if constexpr (!std::is_void_v<Transposed> && sizeof(T) == 2) {  // other types have no such kernel
    if (p.dq_accum.use.transposed) return run_convert_dq_from<T, IsWide, Transposed>(p, stream);
  }
  return run_convert_dq_from<T, IsWide, typename Arch::ScratchLayout>(p, stream);
}

template <class T>
int run_convert_dq(const AttnParams& p, void* stream) {
  return rows_aligned(p.dq, p.head_dim_qk, sizeof(T), 16) ? run_convert_dq<T, true>(p, stream)
                                                          : run_convert_dq<T, false>(p, stream);
}

}  // namespace portattn
