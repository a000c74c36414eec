// How row kernels share a [token, head, dim] tensor: a block takes kTokens tokens with all their heads, a team of lanes
// takes one (token, head) row at a time and its lanes take the row's 16-byte vectors in turn.
#pragma once

#include "attn/token_rows.cuh"
#include "device/launch.cuh"
#include "device/sync.cuh"
#include "device/vector.cuh"
#include "device/warp.cuh"

namespace portattn {

struct RowWalk {
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 256;
  static constexpr int kTokens = 16;
  static constexpr int kMaxTeam = kWarpSize < 16 ? kWarpSize : 16;  // lanes; the largest power of two for small heads

  int team, lane, first, step;

  // Teams of the fewest lanes, a power of two, that read `vectors` at once.
  PA_DEVICE RowWalk(int32_t vectors, int tid) {
    team = 1;
    while (team < kMaxTeam && team < vectors) team *= 2;
    lane = tid % team;
    first = tid / team;
    step = kThreads / team;
  }

  // Sum over a team; every lane of the warp must call it.
  template <class V>
  PA_DEVICE V team_sum(V v) const {
    for (int mask = team / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
  }

  static Grid grid(const SeqSide& side, int32_t batch) {
    return Grid{ceil_div<int64_t>(num_token_rows(side, batch), kTokens), 1};
  }
};

// The tokens of a block, in shared memory: placed once, so that rows cost no division.
struct BlockTokens {
  TokenRow row[RowWalk::kTokens];
  int32_t seq[RowWalk::kTokens];  // the sequence that the token belongs to, -1 for padding

  // Returns how many there are. All threads take part.
  PA_DEVICE int place(const SeqSide& side, int32_t batch, const BlockCtx& ctx) {
    const int64_t first = int64_t{ctx.x} * RowWalk::kTokens;
    const int count = static_cast<int>(min_of<int64_t>(RowWalk::kTokens, num_token_rows(side, batch) - first));
    for (int t = ctx.tid; t < count; t += RowWalk::kThreads) {
      row[t] = TokenRow(side, first + t);
      seq[t] = row[t].sequence(side, batch);
    }
    block_sync();  // all tokens are placed
    return count;
  }
};

}  // namespace portattn
