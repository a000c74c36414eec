// Backward of short segments with one query to a key head. From q, do and lse, with the keys and values in registers:
//   p_j = exp(scale * q.k_j - lse)   dp_j = do.v_j   delta = sum_j p_j dp_j   ds_j = scale * p_j (dp_j - delta)
//   dq = sum_j ds_j k_j              dk_j = ds_j q   dv_j = p_j do
// One pass reads and writes every row once. A segment with more queries, or more than kRows keys, goes the slow way.
#pragma once

#include "small_seq/grad.cuh"

namespace portattn {

// Rows that wait in shared memory until their registers are free again. Each thread has its own slices there, and no
// business with those of others.
template <class Row, int kThreads>
class RowStash {
 public:
  PA_DEVICE RowStash(char* smem, int tid) : data_(reinterpret_cast<Vec*>(smem) + tid) {}

  PA_DEVICE void put(int row, const Row& slice) const {
    PA_UNROLL
    for (int i = 0; i < kVecs; ++i) data_[(row * kVecs + i) * kThreads] = slice.words[i];
  }
  PA_DEVICE Row get(int row) const {
    Row slice;
    PA_UNROLL
    for (int i = 0; i < kVecs; ++i) slice.words[i] = data_[(row * kVecs + i) * kThreads];
    return slice;
  }

 private:
  using Vec = Vec16<uint32_t>;
  static constexpr int kVecs = sizeof(Row) / sizeof(Vec);
  Vec* data_;
};

template <class T, int kVecs, int kRows>
struct SmallSeqBwd {
  using Params = SmallSeqParams;
  using Grad = SmallSeqGrad<T, kVecs>;
  using Row = typename Grad::Row;
  static constexpr int kThreads = kTeamThreads;
  using Walk = UnitWalk<kThreads>;
  // Keys and values of so many rows are in registers at a time; where that is not all, keys wait for dq in a stash.
  static constexpr int kStep = kWarpSize > 1 && kVecs* kRows > 16 ? 16 / kVecs : kRows;
  static constexpr int kSmemBytes = kStep < kRows ? kRows * kThreads * static_cast<int>(sizeof(Row)) : 0;
  using Stash = RowStash<Row, kThreads>;
  static constexpr int kMinBlocks = sizeof(T) > 2 || kVecs* kRows > 16 ? 2 : 3;

  static int32_t padding_blocks(const AttnParams& p) { return Grad::template padding_blocks<kThreads>(p); }

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    if (ctx.x < params.padding_blocks) return Grad::template zero_far<kThreads>(params.attn, ctx);
    Walk::for_each(params, ctx, [&](const Team& team, int32_t index) {
      const SmallSeqUnit unit(params, index);
      Grad::zero_outputs(params, team, unit);
      if (warp_any(unit.num_queries > 1 || unit.kv.len > kRows)) {
        Grad::write_any(params, team, unit);
      } else {
        write_one(params, team, unit, Stash(ctx.smem, ctx.tid));
      }
    });
  }

 private:
  static PA_DEVICE void set_aside(const Stash& stash, int first, const Row (&k)[kStep]) {
    PA_UNROLL
    for (int j = 0; j < kStep; ++j) stash.put(first + j, k[j]);
    warp_sync();  // loads of the next step do not start while registers are full
  }

  static PA_DEVICE void write_one(const Params& params, const Team& team, const SmallSeqUnit& unit,
                                  const Stash& stash) {
    const AttnParams& p = params.attn;
    const typename Grad::Query query(params, team, unit, 0);
    Row k[kStep], v[kStep];
    float prob[kRows], dp[kRows];
    PA_UNROLL
    for (int first = 0; first < kRows; first += kStep) {
      PA_UNROLL
      for (int j = 0; j < kStep; ++j) k[j] = Grad::load_key(p.k, p.head_dim_qk, team, unit, first + j);
      PA_UNROLL
      for (int j = 0; j < kStep; ++j) v[j] = Grad::load_key(p.v, p.head_dim_v, team, unit, first + j);
      PA_UNROLL
      for (int j = 0; j < kStep; ++j) prob[first + j] = query.q.dot(k[j]);
      PA_UNROLL
      for (int j = 0; j < kStep; ++j) dp[first + j] = query.d_o.dot(v[j]);
      team.sum<kStep>(prob + first);
      team.sum<kStep>(dp + first);
      if constexpr (kStep < kRows) set_aside(stash, first, k);
    }
    float delta = 0.f;
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      prob[j] = query.prob(p, j, prob[j]);
      delta += prob[j] * dp[j];
    }
    typename Grad::Sums dq;
    PA_UNROLL
    for (int first = 0; first < kRows; first += kStep) {
      PA_UNROLL
      for (int j = 0; j < kStep; ++j) {
        if (kStep < kRows) k[j] = stash.get(first + j);
        const float ds = p.attn_scale * prob[first + j] * (dp[first + j] - delta);
        k[j].forget();
        dq.add(ds, k[j]);
        Grad::store_dkv(p, team, unit, first + j, ds, query.q, prob[first + j], query.d_o);
      }
    }
    Grad::store_dq(p, team, unit, query.at, dq);
  }
};

}  // namespace portattn
