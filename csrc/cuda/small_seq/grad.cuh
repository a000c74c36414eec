// What the backward of short segments shares: a query with its gradient, rows of keys, and the gradients of one query
// and any number of keys, the slow way, for segments that fit no faster one.
#pragma once

#include "small_seq/padding.cuh"

namespace portattn {

template <class T, int kVecs>
struct SmallSeqGrad {
  using Params = SmallSeqParams;
  using Row = RowSlice<T, kVecs>;
  using Sums = FloatSlice<Row::kElems>;

  // One query: q, do and lse (base 2).
  struct Query {
    UnitQuery at;
    Sums q, d_o;
    float lse;
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
                                int32_t key) {
    return Row::load(row_pointer<const T>(view, unit.seq, unit.kv, key, unit.head_kv), dim, team, key < unit.kv.len);
  }

  static PA_DEVICE void store_dq(const AttnParams& p, const Team& team, const SmallSeqUnit& unit, const UnitQuery& at,
                                 const Sums& dq) {
    if (!at.exists) return;
    store_slice(row_pointer<T>(p.dq, unit.seq, unit.q, at.row, at.head), p.head_dim_qk, team, 1.f, dq);
  }

  static PA_DEVICE void store_dkv(const AttnParams& p, const Team& team, const SmallSeqUnit& unit, int32_t key,
                                  float k_factor, const Sums& dk, float v_factor, const Sums& dv) {
    if (key >= unit.kv.len) return;
    store_slice(row_pointer<T>(p.dk, unit.seq, unit.kv, key, unit.head_kv), p.head_dim_qk, team, k_factor, dk);
    store_slice(row_pointer<T>(p.dv, unit.seq, unit.kv, key, unit.head_kv), p.head_dim_v, team, v_factor, dv);
  }

  // Blocks for the padding of the queries, then for that of the keys.
  template <int Threads>
  static int32_t padding_blocks(const AttnParams& p) {
    return FarPadding<Threads>::blocks(p.q_side, p.batch) + FarPadding<Threads>::blocks(p.kv_side, p.batch);
  }

  template <int Threads>
  static PA_DEVICE void zero_far(const AttnParams& p, const BlockCtx& ctx) {
    using Padding = FarPadding<Threads>;
    const int32_t q_blocks = Padding::blocks(p.q_side, p.batch);
    if (ctx.x < q_blocks) {
      Padding::for_each(p, p.q_side, ctx.x, ctx.tid, [&](const TokenRow& row, int lane) {
        Padding::template zero<T>(p.dq, row, p.num_heads_q, p.head_dim_qk, lane);
      });
    } else {
      Padding::for_each(p, p.kv_side, ctx.x - q_blocks, ctx.tid, [&](const TokenRow& row, int lane) {
        Padding::template zero<T>(p.dk, row, p.num_heads_kv, p.head_dim_qk, lane);
        Padding::template zero<T>(p.dv, row, p.num_heads_kv, p.head_dim_v, lane);
      });
    }
  }

  static PA_DEVICE void zero_outputs(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const AttnParams& p = params.attn;
    const int32_t group = static_cast<int32_t>(params.group.divisor);
    zero_padding<T, kVecs>(p.dq, unit.seq, unit.q, unit.head_kv * group, group, p.head_dim_qk, team);
    zero_padding<T, kVecs>(p.dk, unit.seq, unit.kv, unit.head_kv, 1, p.head_dim_qk, team);
    zero_padding<T, kVecs>(p.dv, unit.seq, unit.kv, unit.head_kv, 1, p.head_dim_v, team);
  }

  // Any number of queries and keys, pair by pair, with delta from do.o.
  static PA_DEVICE void write_any(const Params& params, const Team& team, const SmallSeqUnit& unit) {
    const int32_t num_queries = warp_max(unit.num_queries), num_keys = warp_max(unit.kv.len);
    PA_NO_UNROLL
    for (int32_t n = 0; n < num_queries; ++n) write_dq(params, team, unit, n, num_keys);
    PA_NO_UNROLL
    for (int32_t j = 0; j < num_keys; ++j) write_dkv(params, team, unit, num_queries, j);
  }

 private:
  // p and scale * ds of one query and one key.
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

  static PA_DEVICE void write_dq(const Params& params, const Team& team, const SmallSeqUnit& unit, int32_t n,
                                 int32_t num_keys) {
    const AttnParams& p = params.attn;
    const Query query(params, team, unit, n);
    const float delta = delta_of(p, team, unit, query);
    Sums dq;
    PA_NO_UNROLL
    for (int32_t j = 0; j < num_keys; ++j) {
      const Row k = load_key(p.k, p.head_dim_qk, team, unit, j), v = load_key(p.v, p.head_dim_v, team, unit, j);
      dq.add(Pair(p, team, query, delta, j, k, v).ds, k);
    }
    store_dq(p, team, unit, query.at, dq);
  }

  static PA_DEVICE void write_dkv(const Params& params, const Team& team, const SmallSeqUnit& unit, int32_t num_queries,
                                  int32_t key) {
    const AttnParams& p = params.attn;
    const Row k = load_key(p.k, p.head_dim_qk, team, unit, key), v = load_key(p.v, p.head_dim_v, team, unit, key);
    Sums dk, dv;
    PA_NO_UNROLL
    for (int32_t n = 0; n < num_queries; ++n) {
      const Query query(params, team, unit, n);
      const Pair pair(p, team, query, delta_of(p, team, unit, query), key, k, v);
      dk.add(pair.ds, query.q);
      dv.add(pair.prob, query.d_o);
    }
    store_dkv(p, team, unit, key, 1.f, dk, 1.f, dv);
  }
};

}  // namespace portattn
