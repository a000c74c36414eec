// Backward of very short segments. From q, do and lse, with the keys and values of the segment in registers:
//   p_j = exp(scale * q.k_j - lse)   dp_j = do.v_j   delta = sum_j p_j dp_j   ds_j = scale * p_j (dp_j - delta)
//   dq = sum_j ds_j k_j              dk_j = sum over queries of ds_j q          dv_j = sum over queries of p_j do
// One query and up to kRows keys, the case that the kernel is made for, takes one pass that reads and writes every row
// once. Anything longer is computed key by key, with delta from do.o.
#pragma once

#include "small_seq/unit.cuh"

namespace portattn {

template <class T, int kVecs, int kRows>
struct SmallSeqBwd {
  using Params = SmallSeqParams;
  using Row = RowSlice<T, kVecs>;
  using Sums = FloatSlice<Row::kElems>;
  static constexpr int kThreads = UnitWalk::kThreads;
  static constexpr int kMinBlocks = 2;

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    UnitWalk::for_each(params, ctx, [&](const Team& team, int32_t index) {
      const SmallSeqUnit unit(params, index);
      zero_outputs(params, team, unit);
      const bool is_small = unit.num_queries <= 1 && unit.kv.len <= kRows;
      if (warp_any(!is_small)) {
        write_dq(params, team, unit);
        write_dkv(params, team, unit);
      } else {
        write_all(params, team, unit);
      }
    });
  }

 private:
  // What the backward knows of one query.
  struct Query {
    UnitQuery at;
    Sums q, d_o;
    float lse;  // base 2
    PA_DEVICE Query(const Params& params, const Team& team, const SmallSeqUnit& unit, int32_t n)
        : at(params, unit, n),
          q(load(params.attn.q, params.attn.head_dim_qk, team, unit, at)),
          d_o(load(params.attn.d_o, params.attn.head_dim_v, team, unit, at)),
          lse(0.f) {
      if (!at.exists) return;
      lse = *row_pointer<const float>(params.attn.lse, unit.seq, unit.q, at.row, at.head) * static_cast<float>(kLog2e);
    }

    static PA_DEVICE Row load(const TensorView& view, int32_t dim, const Team& team, const SmallSeqUnit& unit,
                              const UnitQuery& at) {
      return Row::load(row_pointer<const T>(view, unit.seq, unit.q, at.row, at.head), dim, team, at.exists);
    }

    PA_DEVICE float prob(const AttnParams& p, int32_t key, float score) const {
      return at.sees(key) ? fast_exp2(score * (p.attn_scale * static_cast<float>(kLog2e)) - lse) : 0.f;
    }
  };

  static PA_DEVICE Row load_key(const TensorView& view, int32_t dim, const Team& team, const SmallSeqUnit& unit,
                                int32_t key, bool exists) {
    return Row::load(row_pointer<const T>(view, unit.seq, unit.kv, key, unit.head_kv), dim, team, exists);
  }

  static PA_DEVICE void write_all(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const AttnParams& p = params.attn;
    Row k[kRows], v[kRows];
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) k[j] = load_key(p.k, p.head_dim_qk, team, unit, j, j < unit.kv.len);
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) v[j] = load_key(p.v, p.head_dim_v, team, unit, j, j < unit.kv.len);
    const Query query(params, team, unit, 0);
    float s[kRows], dp[kRows];
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) s[j] = query.q.dot(k[j]);
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) dp[j] = query.d_o.dot(v[j]);
    team.sum(s);
    team.sum(dp);
    float delta = 0.f;
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      s[j] = query.prob(p, j, s[j]);
      delta += s[j] * dp[j];
    }
    T* dk = row_pointer<T>(p.dk, unit.seq, unit.kv, 0, unit.head_kv);
    T* dv = row_pointer<T>(p.dv, unit.seq, unit.kv, 0, unit.head_kv);
    Sums dq;
    PA_UNROLL
    for (int j = 0; j < kRows; ++j) {
      const float ds = p.attn_scale * s[j] * (dp[j] - delta);
      dq.add(ds, k[j]);
      if (j >= unit.kv.len) continue;
      store_slice(dk + j * p.dk.token_stride, p.head_dim_qk, team, ds, query.q);
      store_slice(dv + j * p.dv.token_stride, p.head_dim_v, team, s[j], query.d_o);
    }
    store_dq(p, team, unit, query.at, dq);
  }

  static PA_DEVICE void store_dq(const AttnParams& p, const Team& team, const SmallSeqUnit& unit, const UnitQuery& at,
                                 const Sums& dq) {
    if (!at.exists) return;
    store_slice(row_pointer<T>(p.dq, unit.seq, unit.q, at.row, at.head), p.head_dim_qk, team, 1.f, dq);
  }

  // p and scale * ds of one query and one key; k and v are 0 where there is no such key.
  struct Pair {
    float prob, ds;
    PA_DEVICE Pair(const AttnParams& p, const Team& team, const Query& query, float delta, int32_t key, const Row& k,
                   const Row& v) {
      float dots[2] = {query.q.dot(k), query.d_o.dot(v)};
      team.sum(dots);
      prob = query.prob(p, key, dots[0]);
      ds = p.attn_scale * prob * (dots[1] - delta);
    }
  };

  static PA_DEVICE float delta_of(const AttnParams& p, const Team& team, const SmallSeqUnit& unit, const Query& query) {
    float delta[1] = {query.d_o.dot(Query::load(p.o, p.head_dim_v, team, unit, query.at))};
    team.sum(delta);
    return delta[0];
  }

  // dq of any number of queries and keys.
  static PA_DEVICE void write_dq(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const AttnParams& p = params.attn;
    const int32_t num_queries = warp_max(unit.num_queries), num_keys = warp_max(unit.kv.len);
    PA_NO_UNROLL
    for (int32_t n = 0; n < num_queries; ++n) {
      const Query query(params, team, unit, n);
      const float delta = delta_of(p, team, unit, query);
      Sums dq;
      PA_NO_UNROLL
      for (int32_t j = 0; j < num_keys; ++j) {
        const Row k = load_key(p.k, p.head_dim_qk, team, unit, j, query.at.sees(j));
        const Row v = load_key(p.v, p.head_dim_v, team, unit, j, query.at.sees(j));
        dq.add(Pair(p, team, query, delta, j, k, v).ds, k);
      }
      store_dq(p, team, unit, query.at, dq);
    }
  }

  // dk and dv of any number of queries and keys.
  static PA_DEVICE void write_dkv(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const AttnParams& p = params.attn;
    const int32_t num_queries = warp_max(unit.num_queries), num_keys = warp_max(unit.kv.len);
    PA_NO_UNROLL
    for (int32_t j = 0; j < num_keys; ++j) {
      const Row k = load_key(p.k, p.head_dim_qk, team, unit, j, j < unit.kv.len);
      const Row v = load_key(p.v, p.head_dim_v, team, unit, j, j < unit.kv.len);
      Sums dk, dv;
      PA_NO_UNROLL
      for (int32_t n = 0; n < num_queries; ++n) {
        const Query query(params, team, unit, n);
        const Pair pair(p, team, query, delta_of(p, team, unit, query), j, k, v);
        dk.add(pair.ds, query.q);
        dv.add(pair.prob, query.d_o);
      }
      if (j >= unit.kv.len) continue;
      store_slice(row_pointer<T>(p.dk, unit.seq, unit.kv, j, unit.head_kv), p.head_dim_qk, team, 1.f, dk);
      store_slice(row_pointer<T>(p.dv, unit.seq, unit.kv, j, unit.head_kv), p.head_dim_v, team, 1.f, dv);
    }
  }

  static PA_DEVICE void zero_outputs(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const AttnParams& p = params.attn;
    const int32_t group = static_cast<int32_t>(params.group.divisor);
    zero_padding<T, kVecs>(p.dq, unit.seq, unit.q, unit.head_kv * group, group, p.head_dim_qk, team);
    zero_padding<T, kVecs>(p.dk, unit.seq, unit.kv, unit.head_kv, 1, p.head_dim_qk, team);
    zero_padding<T, kVecs>(p.dv, unit.seq, unit.kv, unit.head_kv, 1, p.head_dim_v, team);
  }
};

}  // namespace portattn
