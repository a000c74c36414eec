// Forward of very short segments. A team takes kQueries queries at a time and walks the keys kRows at a time, all in
// registers:
//   s_j = scale * sum_d q_d k_jd  (summed over the team);  p = softmax(s);  o_d = sum_j p_j v_jd
// From one step to the next, the sums are rescaled to the largest score so far.
#pragma once

#include "small_seq/padding.cuh"

namespace portattn {

template <class T, int kVecs, int kRows, int kQueries>
struct SmallSeqFwd {
  using Params = SmallSeqParams;
  using Row = RowSlice<T, kVecs>;
  using Sums = FloatSlice<Row::kElems>;
  static constexpr int kThreads = kTeamThreads;
  using Walk = UnitWalk<kThreads>;
  static constexpr int kMinBlocks = kQueries > 1 || kVecs > 2 ? 2 : 4;

  static int32_t padding_blocks(const AttnParams& p) { return FarPadding<kThreads>::blocks(p.q_side, p.batch); }

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    if (ctx.x < params.padding_blocks) return zero_far<kThreads>(params.attn, ctx);
    Walk::for_each(params, ctx, [&](const Team& team, int32_t index) {
      const SmallSeqUnit unit(params, index);
      zero_outputs(params, team, unit);
      attend_all(params, team, unit);
    });
  }

  static PA_DEVICE void attend_all(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const int32_t num_queries = warp_max(unit.num_queries);
    int32_t n = 0;
    if constexpr (kQueries > 1) {
      PA_NO_UNROLL
      for (; n + kQueries <= num_queries; n += kQueries) attend<kQueries>(params, team, unit, n);
    }
    PA_NO_UNROLL
    for (; n < num_queries; ++n) attend<1>(params, team, unit, n);
  }

  template <int Threads>
  static PA_DEVICE void zero_far(const AttnParams& p, const BlockCtx& ctx) {
    using Padding = FarPadding<Threads>;
    Padding::for_each(p, p.q_side, ctx.x, ctx.tid, [&](const TokenRow& row, int lane) {
      Padding::template zero<T>(p.o, row, p.num_heads_q, p.head_dim_v, lane);
      if (p.lse.data == nullptr) return;
      for (int32_t h = lane; h < p.num_heads_q; h += kWarpSize) *row.pointer<float>(p.lse, h) = neg_inf<float>();
    });
  }

  // o = 0 and lse = -inf on the first padding rows of the segment's slot.
  static PA_DEVICE void zero_outputs(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const AttnParams& p = params.attn;
    const int32_t group = static_cast<int32_t>(params.group.divisor), head = unit.head_kv * group;
    zero_padding<T, kVecs>(p.o, unit.seq, unit.q, head, group, p.head_dim_v, team);
    if (p.lse.data == nullptr || team.lane != 0) return;
    const int32_t end = min_of(unit.q.slot_len, unit.q.len + SmallSeqUnit::kOwnPadding);
    for (int32_t row = unit.q.len; row < end; ++row) {
      for (int32_t h = head; h < head + group; ++h) {
        *row_pointer<float>(p.lse, unit.seq, unit.q, row, h) = neg_inf<float>();
      }
    }
  }

 private:
  // One query and its softmax while its keys are walked.
  struct State {
    UnitQuery at;
    Sums q;
    float max = neg_inf<float>();  // of the scores, base 2
    float sum = 0.f;               // of exp2(score - max)
    Sums o;                        // likewise, times v

    PA_DEVICE State(const Params& params, const Team& team, const SmallSeqUnit& unit, int32_t n)
        : at(params, unit, n),
          q(Row::load(row_pointer<const T>(params.attn.q, unit.seq, unit.q, at.row, at.head), params.attn.head_dim_qk,
                      team, at.exists)) {}
  };

  // Queries [n, n + kCount).
  template <int kCount>
  static PA_DEVICE void attend(const Params& params, const Team& team, const SmallSeqUnit& unit, int32_t n) {
    const AttnParams& p = params.attn;
    Batch<State, kCount> states(params, team, unit, n);
    const int32_t num_keys = warp_max(unit.kv.len);
    PA_NO_UNROLL
    for (int32_t first = 0; first < num_keys; first += kRows) add_keys<kCount>(reread(p), team, unit, first, states);
    PA_UNROLL
    for (int i = 0; i < kCount; ++i) store(p, team, unit, states[i]);
  }

  // Takes keys [first, first + kRows) into each softmax.
  template <int kCount>
  static PA_DEVICE void add_keys(const AttnParams& p, const Team& team, const SmallSeqUnit& unit, int32_t first,
                                 Batch<State, kCount>& states) {
    const T* k_row = row_pointer<const T>(p.k, unit.seq, unit.kv, first, unit.head_kv);
    const T* v_row = row_pointer<const T>(p.v, unit.seq, unit.kv, first, unit.head_kv);
    float s[kCount * kRows];
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      const Row k = Row::load(k_row + j * p.k.token_stride, p.head_dim_qk, team, first + j < unit.kv.len);
      PA_UNROLL
      for (int i = 0; i < kCount; ++i) s[i * kRows + j] = states[i].q.dot(k);
    }
    Row v[kRows];  // on their way while the scores are summed
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      v[j] = Row::load(v_row + j * p.v.token_stride, p.head_dim_v, team, first + j < unit.kv.len);
    }
    team.sum(s);
    const float scale = p.attn_scale * static_cast<float>(kLog2e);
    PA_UNROLL
    for (int i = 0; i < kCount; ++i) softmax(states[i], s + i * kRows, first, scale);
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      PA_UNROLL
      for (int i = 0; i < kCount; ++i) states[i].o.add(s[i * kRows + j], v[j]);
    }
  }

  // Turns kRows scores into exponentials relative to the largest score so far, and rescales what was summed before.
  static PA_DEVICE void softmax(State& state, float* s, int32_t first, float scale) {
    float max = state.max;
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      s[j] = state.at.sees(first + j) ? s[j] * scale : neg_inf<float>();
      max = max_acc(max, s[j]);
    }
    const float shift = max == neg_inf<float>() ? 0.f : max;  // nothing seen so far: every exponential is 0
    const float rescale = fast_exp2(state.max - shift);
    state.max = max;
    state.sum *= rescale;
    state.o.scale(rescale);
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      s[j] = fast_exp2(s[j] - shift);
      state.sum += s[j];
    }
  }

  // A query that sees nothing gets o = 0 and lse = -inf.
  static PA_DEVICE void store(const AttnParams& p, const Team& team, const SmallSeqUnit& unit, const State& state) {
    if (!state.at.exists) return;
    T* o_row = row_pointer<T>(p.o, unit.seq, unit.q, state.at.row, state.at.head);
    store_slice(o_row, p.head_dim_v, team, state.sum > 0.f ? 1.f / state.sum : 0.f, state.o);
    if (p.lse.data == nullptr || team.lane != 0) return;
    *row_pointer<float>(p.lse, unit.seq, unit.q, state.at.row, state.at.head) =
        state.sum > 0.f ? static_cast<float>(kLn2) * (state.max + log2_acc(state.sum)) : neg_inf<float>();
  }
};

}  // namespace portattn
