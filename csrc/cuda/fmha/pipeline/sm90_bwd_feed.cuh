// The warps of an sm_90 backward block (sm90_bwd_ws.cuh) that move data: one loads by TMA, one adds dq up in global
// memory, or several where dq is ordered.
#pragma once

#include "fmha/pipeline/sm90_bwd_turns.cuh"

namespace portattn::sm90 {

// Loads tiles, and the row stats beside the queries; one thread.
template <class Problem>
class BwdWsProducer {
 public:
  using Shared = BwdWsShared<Problem>;

  PA_DEVICE BwdWsProducer(const BwdWsParams& params, char* smem, Shared& shared)
      : params_(params), p_(params.attn), smem_(smem), shared_(shared) {}

  // Serves work items until there are none.
  PA_DEVICE void run(int32_t first) {
    if (p_.q_side.seqlen > 0) {
      prefetch_map(params_.q);
      prefetch_map(params_.d_o);
    }
    prefetch_map(params_.k);
    prefetch_map(params_.v);
    int32_t index = first, block = kLastBlock;
    uint32_t number = 0;
    PA_NO_UNROLL
    for (;;) {
      describe(index, block, number);
      tell_helpers(number);
      const BwdWsTile& tile = *opaque(&shared_.tile(number));
      if (!tile.exists) break;
      load(tile, KeySlot{number});
      number = tile.number + 1;  // from there, since there is no register for it
      if constexpr (Problem::kOneBlock) {
        block = tile.item.tile.block - 1;
        if (block >= 0) continue;
      }
      await_previous_kernel();  // it zeroes next_item
      index = params_.given + atomicAdd(p_.next_item, 1);
    }
    const KeySlot keys{number};
    shared_.k_empty[keys.index()].wait(keys.parity() ^ 1);
    shared_.kv_full[keys.index()].arrive();
  }

 private:
  using KeySlot = RingSlot<Problem::kKeyBuffers>;
  static constexpr int32_t kLastBlock = -1;

  // That a tile is described, when they have followed the one before the last.
  PA_DEVICE void tell_helpers(uint32_t number) const {
    if constexpr (Problem::kAdderWarps > 0) {
      const RingSlot<2> slot{number};
      shared_.followed[slot.index()].wait(slot.parity() ^ 1);
      shared_.described[slot.index()].arrive();
    }
  }

  // `block`: of the item's sequence, where an item is all of it.
  PA_DEVICE void describe(int32_t index, int32_t block, uint32_t number) const {
    BwdWsTile* tile = opaque(&shared_.tile(opaque(number)));
    tile->number = number;
    const int32_t num_steps = params_.order.steps(p_.kv_side);
    tile->exists = index < params_.order.lanes * num_steps;
    if (index >= params_.order.lanes * num_steps) return;
    tile->item = params_.order.item(p_.kv_side, index, num_steps);
    tile = opaque(tile);
    if constexpr (Problem::kParts > 1) {
      tile->part = tile->item.head % Problem::kParts;
      tile->item.head /= Problem::kParts;
      tile = opaque(tile);
    }
    tile->q_rows = seq_rows(p_.q_side, p_.batch, tile->item.tile.seq);
    tile->kv_rows = seq_rows(p_.kv_side, p_.batch, tile->item.tile.seq);
    tile = opaque(tile);
    const bool upward = Problem::kOneBlock || (Problem::kOrdered && last_keys_first(p_.window_left, p_.window_right));
    if constexpr (Problem::kOneBlock) {
      tile->item.tile.block = block == kLastBlock ? ceil_div(tile->kv_rows.slot_len, Problem::kBlockKv) - 1 : block;
    } else if (!upward) {
      tile->item.tile.block =
          first_keys_first(p_.kv_side, tile->kv_rows.slot_len, tile->item.tile.block, Problem::kBlockKv);
    }
    if constexpr (Problem::kStoresFirst) tile->m_step = upward ? 1 : -1;
    tile = opaque(tile);
    tile->rows = TileRows(tile->kv_rows, tile->item.tile.block, Problem::kBlockKv);
    tile->visible = Visibility(p_, tile->q_rows.len, tile->kv_rows.len);
    tile = opaque(tile);
    tile->m_begin = tile->m_end = tile->plain_begin = tile->plain_end = 0;
    if (tile->rows.valid > 0) describe_queries(tile);
    tile = opaque(tile);
    if constexpr (Problem::kStoresFirst) describe_turns(tile);
    const int32_t group = p_.num_heads_q / p_.num_heads_kv;
    tile->first_head = tile->item.head * group;
    tile->steps = (tile->m_end - tile->m_begin) * group;
  }

  static PA_DEVICE void describe_queries(BwdWsTile* tile) {
    const int32_t first = tile->rows.first, end = first + tile->rows.valid;
    const QueryTiles queries = query_tiles(tile->visible, first, end, Problem::kBlockQ);
    if (queries.begin == queries.end) return;
    tile->m_begin = queries.begin;
    tile->m_end = queries.end;
    tile = opaque(tile);
    if (tile->rows.valid < Problem::kBlockKv) return;
    tile->plain_begin = ceil_div(first_row_reaching(tile->visible, end - 1), Problem::kBlockQ);
    tile->plain_end = first_row_past(tile->visible, first + 1) / Problem::kBlockQ;
  }

  static PA_DEVICE void describe_turns(BwdWsTile* tile) {
    const bool upward = tile->m_step > 0;
    tile->m_first = upward ? tile->m_begin : tile->m_end - 1;
    tile->m_last = upward ? tile->m_end - 1 : tile->m_begin;
    tile->before = tile->item.tile.block + tile->m_step;
    tile->shared_begin = tile->shared_end = 0;
    tile = opaque(tile);
    const int32_t first = tile->before * Problem::kBlockKv;
    if (first < 0 || first >= tile->kv_rows.len) return;
    const QueryTiles shared =
        query_tiles(tile->visible, first, min_of(first + Problem::kBlockKv, tile->kv_rows.len), Problem::kBlockQ);
    tile->shared_begin = shared.begin;
    tile->shared_end = shared.end;
  }

  // What is let go first arrives first: k, where it has a place of its own, else v.
  PA_DEVICE void load(const BwdWsTile& tile, const KeySlot& keys) {
    constexpr bool kKeysFirst = Problem::kKeyBuffers > 1;
    Barrier& arrived = shared_.kv_full[keys.index()];
    wait_for_room<kKeysFirst>(tile, keys);
    if (tile.steps > 0) {
      arrived.arrive_expect(Problem::kBytesK + Problem::kBytesV);
      load_keys_or_values<kKeysFirst>(tile, keys, arrived);
    }
    wait_for_room<!kKeysFirst>(tile, keys);
    if (tile.steps == 0) return arrived.arrive();
    load_keys_or_values<!kKeysFirst>(tile, keys, arrived);
    PA_NO_UNROLL
    for (typename Problem::Walk at(tile); at.left > 0; at.advance(tile)) load_queries(tile, at.head, at.m);
  }

  template <bool Keys>
  PA_DEVICE void wait_for_room(const BwdWsTile& tile, const KeySlot& keys) const {
    if constexpr (Keys) {
      shared_.k_empty[keys.index()].wait(keys.parity() ^ 1);
    } else {
      shared_.v_empty.wait(tile.number % 2 ^ 1);
    }
  }
  template <bool Keys>
  PA_DEVICE void load_keys_or_values(const BwdWsTile& tile, const KeySlot& keys, Barrier& arrived) const {
    const int32_t batch = p_.kv_side.is_thd ? 0 : tile.item.tile.seq;
    const int32_t row = static_cast<int32_t>(tile.kv_rows.start) + tile.rows.first;
    if constexpr (Keys) {
      load_tile<Problem::kBlockKv, Problem::kHeadDimQk>(smem_ + keys.index() * Problem::kBytesK, params_.k, arrived,
                                                        row, tile.item.head, batch, kEvictFirst);
    } else {
      load_tile<Problem::kBlockKv, Problem::kHeadDimV>(smem_ + Problem::kOffsetV, params_.v, arrived, row,
                                                       tile.item.head, batch, kEvictFirst);
    }
  }

  PA_DEVICE void load_queries(const BwdWsTile& tile, int32_t head, int32_t m) {
    const int32_t batch = p_.q_side.is_thd ? 0 : tile.item.tile.seq;
    const int32_t row = static_cast<int32_t>(tile.q_rows.start) + m * Problem::kBlockQ;
    const int s = at_.index();
    shared_.empty[s].wait(at_.parity() ^ 1);
    shared_.full[s].arrive_expect(Problem::kBytesQ + Problem::kBytesDo + 2 * kBytesStats);
    load_tile<Problem::kBlockQ, Problem::kHeadDimQk>(smem_ + Problem::kOffsetQ + s * Problem::kBytesQ, params_.q,
                                                     shared_.full[s], row, head, batch, kEvictLast);
    load_tile<Problem::kBlockQ, Problem::kHeadDimV>(smem_ + Problem::kOffsetDo + s * Problem::kBytesDo, params_.d_o,
                                                    shared_.full[s], row, head, batch, kEvictLast);
    await_previous_kernel();  // it computes the stats
    const float* stats = row_stats(p_, tile.item.tile.seq, tile.q_rows, head) + m * Problem::kBlockQ;
    load_bulk(shared_.lse_log2[s], stats, kBytesStats, shared_.full[s]);
    load_bulk(shared_.minus_delta[s], stats + row_stats_delta(p_), kBytesStats, shared_.full[s]);
    at_.advance();
  }

  static constexpr int kBytesStats = Problem::kBlockQ * sizeof(float);
  static_assert(Problem::kBlockQ <= RowStats::kSpareRows, "the last tile reads past the last row");

  const BwdWsParams& params_;
  const AttnParams& p_;
  char* smem_;
  Shared& shared_;
  RingSlot<Problem::kStages> at_;
};

// What a helper warp does for every tile of its block: f(tile).
template <class Problem, class F>
PA_DEVICE void for_each_tile(BwdWsShared<Problem>& shared, int tid, F f) {
  uint32_t number = 0;
  PA_NO_UNROLL
  for (;;) {
    const RingSlot<2> slot{number};
    shared.described[slot.index()].wait(slot.parity());
    const BwdWsTile& tile = *opaque(&shared.tile(number));
    if (!tile.exists) break;
    f(tile);
    number = tile.number + 1;  // from there, since where dq is ordered f has no register for it
    warp_sync();               // all lanes have read the tile
    if (opaque(tid) % 32 == 0) shared.followed[RingSlot<2>{number - 1}.index()].arrive();
  }
}

// Adds dq, staged by consumers, to the scratch: one warp for both consumers, or one for each, so that nobody is held up
// by another; where dq is ordered kAdders for each. A consumer's share of a group of rows is contiguous there.
template <class Problem>
class BwdWsDqAdder {
 public:
  using Shared = BwdWsShared<Problem>;
  using Walk = typename Problem::Walk;

  // `tid` counts the threads of all adders.
  PA_DEVICE BwdWsDqAdder(const AttnParams& p, const char* smem, Shared& shared, int tid)
      : p_(p), staging_(smem + Problem::kOffsetDq), shared_(shared), tid_(tid) {}

  PA_DEVICE void run() {
    await_previous_kernel();  // it zeroes the scratch
    for_each_tile(shared_, tid_, [&](const BwdWsTile& tile) {
      Walk at(tile);
      if constexpr (Problem::kOrdered) {
        add_in_turn(tile, at);
      } else {
        PA_NO_UNROLL
        for (; at.left > 0; advance(tile, at)) add(tile, at);
      }
    });
    wait_bulk();
  }

 private:
  // This warp's steps.
  PA_DEVICE void add_in_turn(const BwdWsTile& tile, Walk& at) {
    skip(tile, at);
    if (at.left == 0) return;
    BwdWsTurns<Problem> turns(p_, tid_);
    turns.begin(tile, at);
    PA_NO_UNROLL
    while (at.left > 0) {
      turns.wait(tile, at);
      add(tile, at);
      const Walk done = at;
      advance(tile, at);
      skip(tile, at);
      turns.pass(tile, done, at);
    }
  }
  // On to this warp's next step.
  PA_DEVICE void skip(const BwdWsTile& tile, Walk& at) {
    while (at.left > 0 && static_cast<int>(steps_ % Problem::kAdders) != adder()) advance(tile, at);
  }
  PA_DEVICE void advance(const BwdWsTile& tile, Walk& at) {
    at.advance(tile);
    ++steps_;
  }

  PA_DEVICE void add(const BwdWsTile& tile, const Walk& at) const {
    const float* scratch = dq_scratch(p_, tile.item.tile.seq, tile.q_rows, at.head);
    if constexpr (Problem::kAdderWarps > 1) {
      add(tile, at, scratch, opaque(tid_) / 32 / Problem::kAdders);
    } else {
      PA_NO_UNROLL
      for (int c = 0; c < Problem::kConsumers; ++c) add(tile, at, scratch, c);
    }
  }
  // dq of consumer c; `scratch` is that of the step's head. A lane sends a group of rows.
  PA_DEVICE void add(const BwdWsTile& tile, const Walk& at, const float* scratch, int c) const {
    const int lane = opaque(tid_) % 32;
    const int32_t group =
        at.m * (Problem::kBlockQ / DqScratch::kRows) + (Problem::kSplitsRows ? c * Problem::kDqGroups : 0) + lane;
    const int col = Problem::kSplitsRows ? 0 : c * Problem::kDqColumns;
    const int cols = min_of(p_.head_dim_qk - col, Problem::kDqColumns);
    const float* to = scratch + group * dq_scratch_step(p_) + col * DqScratch::kRows;
    const char* from = staging_ + c * Problem::kBytesDq + lane * Problem::kBytesDqGroup;
    shared_.dq_full[c][adder()].wait(steps_ / Problem::kAdders % 2);
    if (Problem::kOneBlock && tile.item.tile.block == 0) {
      wait_bulk();  // consumers read what was sent, and write dq
    } else if (lane < Problem::kDqGroups && group * DqScratch::kRows < tile.q_rows.len && cols > 0) {
      send(tile, at, const_cast<float*>(to), from, cols * DqScratch::kRows * 4);
      wait_bulk_read();
      if constexpr (Problem::kOneBlock) wait_for_earlier(tile);
    }
    warp_sync();  // all of the staging has been read
    if (lane == 0) shared_.dq_empty[c].arrive();
  }

  // So that what is added or read next finds what the tile of keys before has left there, as many steps ago as they
  // have tiles of queries in common.
  static PA_DEVICE void wait_for_earlier(const BwdWsTile& tile) {
    const int32_t shared = tile.shared_end - tile.shared_begin, steps = shared > 0 ? shared : tile.m_end - tile.m_begin;
    if (steps > 3) {
      wait_bulk<3>();
    } else if (steps > 1) {
      wait_bulk<1>();
    } else {
      wait_bulk<0>();
    }
  }

  // Where dq is added in an order, what comes first is stored: delta zeroes no more than rows that nobody comes to.
  static PA_DEVICE void send(const BwdWsTile& tile, const Walk& at, float* to, const char* staging, int bytes) {
    if (Problem::kStoresFirst && !tile.shares(at.m)) {
      store_bulk(to, staging, bytes);
    } else {
      add_bulk(to, staging, bytes);
    }
  }

  // Of those of one consumer.
  PA_DEVICE int adder() const { return opaque(tid_) / 32 % Problem::kAdders; }

  const AttnParams& p_;
  const char* staging_;
  Shared& shared_;
  int tid_;
  uint32_t steps_ = 0;
};

}  // namespace portattn::sm90
