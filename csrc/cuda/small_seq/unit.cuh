// The work of one team: a segment and one of its key heads, with all query heads that share it. Nobody else writes the
// unit's rows of o, dq, dk and dv, so nothing is added atomically and padding is zeroed by whoever owns its slot.
#pragma once

#include <utility>

#include "attn/seqlen_info.cuh"
#include "attn/visibility.cuh"
#include "device/launch.cuh"
#include "small_seq/launch.h"
#include "small_seq/team.cuh"

namespace portattn {

struct SmallSeqParams {
  AttnParams attn;
  int32_t team_size;
  int32_t num_units;
  FastDivisor heads_kv;                       // unit -> segment
  FastDivisor group;                          // query of a unit -> row; query heads that share a key head
  int32_t padding_blocks = 0;                 // first in the grid, see padding.cuh
  int32_t stash_queries = 0, stash_keys = 0;  // pairs of a unit that shared memory holds: see bwd_many.cuh
};

// Threads of a block of several teams.
constexpr int kTeamThreads = kWarpSize == 1 ? 1 : 128;

// How blocks of so many threads divide the units. A host block is one lane: it takes many units, one after the other.
template <int Threads>
struct UnitWalk {
  static constexpr int kSteps = kWarpSize == 1 ? 64 : 1;

  // f(team, unit) for each of a team's units, with one beyond the last where there are none left: all lanes of a warp
  // take part in every exchange.
  template <class F>
  static PA_DEVICE void for_each(const SmallSeqParams& params, const BlockCtx& ctx, F f) {
    const Team team(params.team_size, ctx.tid);
    const int32_t teams = Threads / params.team_size;
    PA_NO_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const int64_t unit =
          (int64_t{ctx.x - params.padding_blocks} * kSteps + step) * teams + ctx.tid / params.team_size;
      f(team, static_cast<int32_t>(min_of<int64_t>(unit, params.num_units)));
    }
  }

  static Grid grid(const SmallSeqParams& params) {
    return Grid{params.padding_blocks + ceil_div<int64_t>(params.num_units, kSteps * (Threads / params.team_size)), 1};
  }
};

// For blocks whose warps take the same unit.
PA_DEVICE BlockCtx of_one_warp(BlockCtx ctx) {
  ctx.tid %= kWarpSize;
  return ctx;
}

struct SmallSeqUnit {
  // Padding rows after a segment that its units zero.
  static constexpr int32_t kOwnPadding = 32;

  int32_t seq = 0, head_kv = 0;
  SeqRows q, kv;
  int32_t num_queries = 0;  // rows times the query heads of the group

  PA_DEVICE SmallSeqUnit(const SmallSeqParams& params, int32_t unit) {
    if (unit >= params.num_units) return;
    const AttnParams& p = params.attn;
    seq = fast_divide(unit, params.heads_kv);
    head_kv = unit - seq * p.num_heads_kv;
    q = seq_rows(p.q_side, p.batch, seq);
    kv = seq_rows(p.kv_side, p.batch, seq);
    num_queries = q.len * static_cast<int32_t>(params.group.divisor);
  }
};

// Query n of a unit: its row in the segment, its head, and the keys that it sees. None when n is past the last.
struct UnitQuery {
  bool exists = false;
  int32_t row = 0, head = 0;
  KeyRange keys{0, 0};

  UnitQuery() = default;
  PA_DEVICE UnitQuery(const SmallSeqParams& params, const SmallSeqUnit& unit, int32_t n)
      : exists(n < unit.num_queries), row(exists ? fast_divide(n, params.group) : 0) {
    const int32_t group = static_cast<int32_t>(params.group.divisor);
    head = unit.head_kv * group + (exists ? n - row * group : 0);
    if (exists) keys = Visibility(params.attn, unit.q.len, unit.kv.len).keys(row);
  }

  PA_DEVICE bool sees(int32_t key) const { return key >= keys.lo && key < keys.hi; }
};

// kCount consecutive queries of a unit, each described by an X(params, team, unit, n). They live in registers: an array
// whose elements have no default constructor.
template <class X, int kCount>
class Batch {
 public:
  PA_DEVICE Batch(const SmallSeqParams& params, const Team& team, const SmallSeqUnit& unit, int32_t n)
      : Batch(params, team, unit, n, std::make_integer_sequence<int32_t, kCount>()) {}

  PA_DEVICE X& operator[](int i) { return x_[i]; }
  PA_DEVICE const X& operator[](int i) const { return x_[i]; }

 private:
  template <int32_t... kIndex>
  PA_DEVICE Batch(const SmallSeqParams& params, const Team& team, const SmallSeqUnit& unit, int32_t n,
                  std::integer_sequence<int32_t, kIndex...>)
      : x_{X(params, team, unit, n + kIndex)...} {}

  X x_[kCount];
};

// Zeroes the first padding rows of the slot for heads [head, head + heads).
template <class T, int kVecs>
PA_DEVICE void zero_padding(const TensorView& view, int32_t seq, const SeqRows& rows, int32_t head, int32_t heads,
                            int32_t dim, const Team& team) {
  const FloatSlice<RowSlice<T, kVecs>::kElems> zero;
  const int32_t end = min_of(rows.slot_len, rows.len + SmallSeqUnit::kOwnPadding);
  for (int32_t row = rows.len; row < end; ++row) {
    for (int32_t h = head; h < head + heads; ++h) {
      store_slice(row_pointer<T>(view, seq, rows, row, h), dim, team, 0.f, zero);
    }
  }
}

}  // namespace portattn
