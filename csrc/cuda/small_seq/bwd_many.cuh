// Backward of short segments with several queries to a key head, by lanes, for what does not go to tiles. The
// probabilities and score gradients of all pairs of a unit wait in shared memory, the sums over them are registers:
//   1. p and dp of kBatch x kBatch pairs at a time, delta of each query, ds = scale * p (dp - delta)
//   2. dq of kBatch queries: sum over keys of ds k        3. dk, dv of kBatch keys: sums over queries of ds q, p do
// Rows come from memory once and from cache after that. A unit with more pairs than fit goes the slow way.
#pragma once

#include "device/sync.cuh"
#include "small_seq/grad.cuh"

namespace portattn {

// Pairs of one team's unit, float [keys, queries], first p, then dp and ds. Both counts are multiples of kBatch.
class PairStash {
 public:
  static constexpr int kBatch = 4;
  using Floats = Vec16<float>;

  PA_HOST_DEVICE static int32_t padded(int32_t count) { return ceil_div(count, kBatch) * kBatch; }
  // With a vector to spare, so that neighbouring teams read different banks.
  PA_HOST_DEVICE static int32_t bytes(int32_t queries, int32_t keys) {
    return 2 * padded(queries) * padded(keys) * static_cast<int32_t>(sizeof(float)) +
           static_cast<int32_t>(sizeof(Floats));
  }

  PA_DEVICE PairStash(char* smem, int32_t queries, int32_t keys, int team)
      : row_(padded(queries)), matrix_(row_ * padded(keys)) {
    data_ = reinterpret_cast<float*>(smem + int64_t{team} * bytes(queries, keys));
  }

  // kBatch queries from n on, of one key.
  PA_DEVICE Floats& prob(int32_t key, int32_t n) const { return *reinterpret_cast<Floats*>(data_ + key * row_ + n); }
  PA_DEVICE Floats& ds(int32_t key, int32_t n) const {
    return *reinterpret_cast<Floats*>(data_ + matrix_ + key * row_ + n);
  }

 private:
  float* data_;
  int32_t row_, matrix_;
};

template <class T, int kVecs>
struct SmallSeqBwdMany {
  using Params = SmallSeqParams;
  using Grad = SmallSeqGrad<T, kVecs>;
  using Row = typename Grad::Row;
  using Sums = typename Grad::Sums;
  using Query = typename Grad::Query;
  static constexpr int kThreads = kTeamThreads;
  using Walk = UnitWalk<kThreads>;
  static constexpr int kMinBlocks = 2;
  static constexpr int kBatch = PairStash::kBatch;

  static int32_t padding_blocks(const AttnParams& p) { return Grad::template padding_blocks<kThreads>(p); }

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    if (ctx.x < params.padding_blocks) return Grad::template zero_far<kThreads>(params.attn, ctx);
    const PairStash stash(ctx.smem, params.stash_queries, params.stash_keys, ctx.tid / params.team_size);
    Walk::for_each(params, ctx, [&](const Team& team, int32_t index) {
      const SmallSeqUnit unit(params, index);
      Grad::zero_outputs(params, team, unit);
      if (warp_any(unit.num_queries > params.stash_queries || unit.kv.len > params.stash_keys)) {
        Grad::write_any(params, team, unit);
        return;
      }
      const int32_t num_queries = warp_max(unit.num_queries), num_keys = warp_max(unit.kv.len);
      PA_NO_UNROLL
      for (int32_t n = 0; n < num_queries; n += kBatch) stash_pairs(params, team, unit, stash, n, num_keys);
      PA_NO_UNROLL
      for (int32_t n = 0; n < num_queries; n += kBatch) write_dq(params, team, unit, stash, n, num_keys);
      PA_NO_UNROLL
      for (int32_t j = 0; j < num_keys; j += kBatch) write_dkv(params, team, unit, stash, j, num_queries);
      warp_sync();  // the stash has been read; the next unit may overwrite it
    });
  }

 private:
  // p and ds of queries [n, n + kBatch) and all keys. Pairs that do not exist get 0.
  static PA_DEVICE void stash_pairs(const Params& params, const Team& team, const SmallSeqUnit& unit,
                                    const PairStash& stash, int32_t n, int32_t num_keys) {
    const Batch<Query, kBatch> queries(params, team, unit, n);
    float delta[kBatch] = {};
    PA_NO_UNROLL
    for (int32_t j = 0; j < num_keys; j += kBatch) stash_block(params.attn, team, unit, stash, n, j, queries, delta);
    warp_sync();  // p and dp of the team's queries are written
    PA_NO_UNROLL
    for (int32_t j = team.lane; j < num_keys; j += team.size) {
      const PairStash::Floats prob = stash.prob(j, n);
      PairStash::Floats ds = stash.ds(j, n);
      PA_UNROLL
      for (int i = 0; i < kBatch; ++i) ds.data[i] = params.attn.attn_scale * prob.data[i] * (ds.data[i] - delta[i]);
      stash.ds(j, n) = ds;
    }
    warp_sync();  // ds has taken dp's place
  }

  // p and dp of kBatch queries and keys [first, first + kBatch), and their part of delta.
  static PA_DEVICE void stash_block(const AttnParams& p, const Team& team, const SmallSeqUnit& unit,
                                    const PairStash& stash, int32_t n, int32_t first,
                                    const Batch<Query, kBatch>& queries, float (&delta)[kBatch]) {
    float dots[2 * kBatch * kBatch];
    PA_UNROLL
    for (int j = 0; j < kBatch; ++j) {
      const Row k = Grad::load_key(p.k, p.head_dim_qk, team, unit, first + j);
      const Row v = Grad::load_key(p.v, p.head_dim_v, team, unit, first + j);
      PA_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        dots[2 * (j * kBatch + i)] = queries[i].q.dot(k);
        dots[2 * (j * kBatch + i) + 1] = queries[i].d_o.dot(v);
      }
    }
    team.sum(dots);
    PA_UNROLL
    for (int j = 0; j < kBatch; ++j) {
      PairStash::Floats prob, dp;
      PA_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        prob.data[i] = queries[i].prob(p, first + j, dots[2 * (j * kBatch + i)]);
        dp.data[i] = dots[2 * (j * kBatch + i) + 1];
        delta[i] += prob.data[i] * dp.data[i];
      }
      if (team.lane != 0) continue;
      stash.prob(first + j, n) = prob;
      stash.ds(first + j, n) = dp;
    }
  }

  static PA_DEVICE void write_dq(const Params& params, const Team& team, const SmallSeqUnit& unit,
                                 const PairStash& stash, int32_t n, int32_t num_keys) {
    const AttnParams& p = params.attn;
    Sums dq[kBatch];
    PA_NO_UNROLL
    for (int32_t first = 0; first < num_keys; first += kBatch) {
      PA_UNROLL
      for (int j = 0; j < kBatch; ++j) {
        const Row k = Grad::load_key(p.k, p.head_dim_qk, team, unit, first + j);
        const PairStash::Floats ds = stash.ds(first + j, n);
        PA_UNROLL
        for (int i = 0; i < kBatch; ++i) dq[i].add(ds.data[i], k);  // 0 past the last key
      }
    }
    PA_UNROLL
    for (int i = 0; i < kBatch; ++i) Grad::store_dq(p, team, unit, UnitQuery(params, unit, n + i), dq[i]);
  }

  static PA_DEVICE void write_dkv(const Params& params, const Team& team, const SmallSeqUnit& unit,
                                  const PairStash& stash, int32_t first, int32_t num_queries) {
    const AttnParams& p = params.attn;
    Sums dk[kBatch], dv[kBatch];
    PA_NO_UNROLL
    for (int32_t n = 0; n < num_queries; n += kBatch) {
      PairStash::Floats prob[kBatch], ds[kBatch];
      PA_UNROLL
      for (int j = 0; j < kBatch; ++j) {
        prob[j] = stash.prob(first + j, n);
        ds[j] = stash.ds(first + j, n);
      }
      PA_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        const UnitQuery at(params, unit, n + i);
        const Row q = Query::load(p.q, p.head_dim_qk, team, unit, at);
        const Row d_o = Query::load(p.d_o, p.head_dim_v, team, unit, at);
        PA_UNROLL
        for (int j = 0; j < kBatch; ++j) {
          dk[j].add(ds[j].data[i], q);
          dv[j].add(prob[j].data[i], d_o);
        }
      }
    }
    PA_UNROLL
    for (int j = 0; j < kBatch; ++j) Grad::store_dkv(p, team, unit, first + j, 1.f, dk[j], 1.f, dv[j]);
  }
};

}  // namespace portattn
