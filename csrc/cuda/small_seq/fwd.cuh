// Forward of very short segments. A team takes one query at a time and keeps up to kRows keys and values, and the whole
// row of scores, in registers:
//   s_j = scale * sum_d q_d k_jd  (summed over the team);  p = softmax(s);  o_d = sum_j p_j v_jd
// Segments with more keys are walked kRows at a time, with the sums rescaled to the largest score so far.
#pragma once

#include "small_seq/unit.cuh"

namespace portattn {

template <class T, int kVecs, int kRows>
struct SmallSeqFwd {
  using Params = SmallSeqParams;
  using Row = RowSlice<T, kVecs>;
  using Sums = FloatSlice<Row::kElems>;
  static constexpr int kThreads = UnitWalk::kThreads;
  static constexpr int kMinBlocks = kVecs * kRows >= 32 ? 2 : (kVecs * kRows >= 8 ? 3 : 4);

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    UnitWalk::for_each(params, ctx, [&](const Team& team, int32_t index) {
      const SmallSeqUnit unit(params, index);
      zero_outputs(params, team, unit);
      const int32_t num_queries = warp_max(unit.num_queries);
      PA_NO_UNROLL
      for (int32_t n = 0; n < num_queries; ++n) attend(params, team, unit, UnitQuery(params, unit, n));
    });
  }

 private:
  // A row of the softmax while its keys are walked.
  struct State {
    float max = neg_inf<float>();  // of the scores, base 2
    float sum = 0.f;               // of exp2(score - max)
    Sums o;                        // likewise, times v
  };

  static PA_DEVICE void attend(const Params& params, const Team& team, const SmallSeqUnit& unit,
                               const UnitQuery& query) {
    const AttnParams& p = params.attn;
    const T* q_row = row_pointer<const T>(p.q, unit.seq, unit.q, query.row, query.head);
    const Sums q(Row::load(q_row, p.head_dim_qk, team, query.exists));
    State state;
    const int32_t num_keys = warp_max(unit.kv.len);
    PA_NO_UNROLL
    for (int32_t first = 0; first < num_keys; first += kRows) add_keys(p, team, unit, query, q, first, state);
    if (!query.exists) return;
    T* o_row = row_pointer<T>(p.o, unit.seq, unit.q, query.row, query.head);
    store_slice(o_row, p.head_dim_v, team, state.sum > 0.f ? 1.f / state.sum : 0.f, state.o);
    if (p.lse.data == nullptr || team.lane != 0) return;
    *row_pointer<float>(p.lse, unit.seq, unit.q, query.row, query.head) =
        state.sum > 0.f ? static_cast<float>(kLn2) * (state.max + log2_acc(state.sum)) : neg_inf<float>();
  }

  // Takes keys [first, first + kRows) into the softmax.
  static PA_DEVICE void add_keys(const AttnParams& p, const Team& team, const SmallSeqUnit& unit,
                                 const UnitQuery& query, const Sums& q, int32_t first, State& state) {
    const T* k_row = row_pointer<const T>(p.k, unit.seq, unit.kv, first, unit.head_kv);
    const T* v_row = row_pointer<const T>(p.v, unit.seq, unit.kv, first, unit.head_kv);
    float s[kRows];
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      s[j] = q.dot(Row::load(k_row + j * p.k.token_stride, p.head_dim_qk, team, query.sees(first + j)));
    }
    Row v[kRows];  // on their way while the scores are summed
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      v[j] = Row::load(v_row + j * p.v.token_stride, p.head_dim_v, team, query.sees(first + j));
    }
    team.sum(s);
    const float scale = p.attn_scale * static_cast<float>(kLog2e);
    float max = state.max;
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      s[j] = query.sees(first + j) ? s[j] * scale : neg_inf<float>();
      max = max_acc(max, s[j]);
    }
    const float shift = max == neg_inf<float>() ? 0.f : max;  // nothing seen so far: every exponential is 0
    const float rescale = fast_exp2(state.max - shift);
    state.sum *= rescale;
    state.o.scale(rescale);
    state.max = max;
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      const float prob = fast_exp2(s[j] - shift);
      state.sum += prob;
      state.o.add(prob, v[j]);
    }
  }

  // o = 0 and lse = -inf on the padding rows of the segment's slot.
  static PA_DEVICE void zero_outputs(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const AttnParams& p = params.attn;
    const int32_t group = static_cast<int32_t>(params.group.divisor), head = unit.head_kv * group;
    zero_padding<T, kVecs>(p.o, unit.seq, unit.q, head, group, p.head_dim_v, team);
    if (p.lse.data == nullptr || team.lane != 0) return;
    for (int32_t row = unit.q.len; row < unit.q.slot_len; ++row) {
      for (int32_t h = head; h < head + group; ++h) {
        *row_pointer<float>(p.lse, unit.seq, unit.q, row, h) = neg_inf<float>();
      }
    }
  }
};

}  // namespace portattn
