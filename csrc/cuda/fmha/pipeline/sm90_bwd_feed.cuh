// The warps of an sm_90 backward block (sm90_bwd_ws.cuh) that move data: one loads by TMA, one adds dq up in global
// memory, or two where dq is ordered.
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
  PA_DEVICE void run(int32_t first, int32_t step) {
    if (p_.q_side.seqlen > 0) {
      prefetch_map(params_.q);
      prefetch_map(params_.d_o);
    }
    prefetch_map(params_.k);
    prefetch_map(params_.v);
    RingSlot<kBwdTileSlots> slot;
    describe(first, slot);
    PA_NO_UNROLL
    for (;;) {
      shared_.kv_empty.wait(slot.count % 2 ^ 1);
      shared_.described.arrive();
      const BwdWsTile& tile = *opaque(&shared_.tile(slot.index()));
      if (!tile.exists) break;
      load(tile);
      slot.advance();
      await_previous_kernel();  // it zeroes next_item
      describe(step + atomicAdd(p_.next_item, 1), slot);
    }
    shared_.kv_full.arrive();
  }

 private:
  PA_DEVICE void describe(int32_t index, const RingSlot<kBwdTileSlots>& slot) const {
    BwdWsTile* tile = opaque(&shared_.tile(opaque(slot.index())));
    tile->number = slot.count;
    const int32_t num_steps = params_.order.steps(p_.kv_side);
    tile->exists = index < params_.order.lanes * num_steps;
    if (index >= params_.order.lanes * num_steps) return;
    tile->item = params_.order.item(p_.kv_side, index, num_steps);
    tile = opaque(tile);
    tile->q_rows = seq_rows(p_.q_side, p_.batch, tile->item.tile.seq);
    tile->kv_rows = seq_rows(p_.kv_side, p_.batch, tile->item.tile.seq);
    tile = opaque(tile);
    if constexpr (Problem::kOrdered) {
      tile->item.tile.block =
          first_keys_first(p_.kv_side, tile->kv_rows.slot_len, tile->item.tile.block, Problem::kBlockKv);
    }
    tile->rows = TileRows(tile->kv_rows, tile->item.tile.block, Problem::kBlockKv);
    tile->visible = Visibility(p_, tile->q_rows.len, tile->kv_rows.len);
    tile = opaque(tile);
    tile->m_begin = tile->m_end = tile->shared_end = tile->plain_begin = tile->plain_end = 0;
    if (tile->rows.valid > 0) describe_queries(tile);
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
    if constexpr (Problem::kOrdered) {
      if (first > 0) {
        tile->shared_end = query_tiles(tile->visible, first - Problem::kBlockKv, first, Problem::kBlockQ).end;
        tile = opaque(tile);
      }
    }
    if (tile->rows.valid < Problem::kBlockKv) return;
    tile->plain_begin = ceil_div(first_row_reaching(tile->visible, end - 1), Problem::kBlockQ);
    tile->plain_end = first_row_past(tile->visible, first + 1) / Problem::kBlockQ;
  }

  PA_DEVICE void load(const BwdWsTile& tile) {
    if (tile.steps == 0) return shared_.kv_full.arrive();
    const int32_t kv_batch = p_.kv_side.is_thd ? 0 : tile.item.tile.seq;
    const int32_t kv_row = static_cast<int32_t>(tile.kv_rows.start) + tile.rows.first;
    shared_.kv_full.arrive_expect(Problem::kBytesK + Problem::kBytesV);
    load_tile<Problem::kBlockKv, Problem::kHeadDimQk>(smem_, params_.k, shared_.kv_full, kv_row, tile.item.head,
                                                      kv_batch, kEvictFirst);
    load_tile<Problem::kBlockKv, Problem::kHeadDimV>(smem_ + Problem::kOffsetV, params_.v, shared_.kv_full, kv_row,
                                                     tile.item.head, kv_batch, kEvictFirst);
    PA_NO_UNROLL
    for (typename Problem::Walk at(tile); at.left > 0; at.advance(tile)) load_queries(tile, at.head, at.m);
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

// What a helper warp does for every tile of its block: f(tile), and then it lets the tile go.
template <class Problem, class F>
PA_DEVICE void for_each_tile(BwdWsShared<Problem>& shared, int lane, F f) {
  RingSlot<kBwdTileSlots> slot;
  PA_NO_UNROLL
  for (;; slot.advance()) {
    shared.described.wait(slot.count % 2);
    const BwdWsTile& tile = *opaque(&shared.tile(slot.index()));
    if (!tile.exists) break;
    f(tile);
    warp_sync();  // all lanes have read the tile
    if (lane == 0) shared.kv_empty.arrive();
  }
}

// Adds dq, staged by consumers, to the scratch; one warp, which in a fixed order serves consumer `first` alone, so that
// nobody is held up by another's turn. A warp's share of dq is contiguous there.
template <class Problem>
class BwdWsDqAdder {
 public:
  using Shared = BwdWsShared<Problem>;
  using Walk = typename Problem::Walk;

  PA_DEVICE BwdWsDqAdder(const AttnParams& p, const char* smem, Shared& shared, int first, int lane)
      : p_(p), staging_(smem + Problem::kOffsetDq), shared_(shared), first_(first), lane_(lane) {}

  PA_DEVICE void run() {
    await_previous_kernel();  // it zeroes the scratch
    BwdWsTurns<Problem> turns(p_, first_, lane_);
    for_each_tile(shared_, lane_, [&](const BwdWsTile& tile) {
      Walk at(tile);
      if constexpr (Problem::kOrdered) turns.begin(tile, at);
      PA_NO_UNROLL
      for (; at.left > 0; ++steps_) {
        if constexpr (Problem::kOrdered) turns.wait(tile, at);
        add(tile, at);
        at.advance(tile);
        if constexpr (Problem::kOrdered) turns.pass(tile, at);
      }
    });
    wait_bulk();
  }

 private:
  static constexpr int kServes = Problem::kOrdered ? 1 : Problem::kConsumers;

  // Lanes 0 to 3 stand for the warps of a consumer.
  PA_DEVICE void add(const BwdWsTile& tile, const Walk& at) const {
    const float* scratch = dq_scratch(p_, tile.item.tile.seq, tile.q_rows, at.head);
    PA_NO_UNROLL
    for (int c = first_; c < first_ + kServes; ++c) {
      const int warp = c * 4 + lane_;
      const int32_t row = at.m * Problem::kBlockQ + (Problem::kSplitsRows ? warp : lane_) * DqScratch::kRows;
      const int col = Problem::kSplitsRows ? 0 : c * Problem::kDqColumns;
      const int cols = min_of(p_.head_dim_qk - col, Problem::kDqColumns);
      const float* to = scratch + row / DqScratch::kRows * dq_scratch_step(p_) + col * DqScratch::kRows;
      shared_.dq_full[c].wait(steps_ % 2);
      if (lane_ < 4 && row < tile.q_rows.len && cols > 0) {
        add_bulk(const_cast<float*>(to), staging_ + warp * Problem::kBytesDq, cols * DqScratch::kRows * 4);
        wait_bulk_read();
      }
      warp_sync();  // all of the staging has been read
      if (lane_ == 0) shared_.dq_empty[c].arrive();
    }
  }

  const AttnParams& p_;
  const char* staging_;
  Shared& shared_;
  int first_;
  int lane_;
  uint32_t steps_ = 0;
};

}  // namespace portattn::sm90
