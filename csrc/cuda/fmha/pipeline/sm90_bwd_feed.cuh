// The warps of an sm_90 backward block (sm90_bwd_ws.cuh) that move data: one loads tiles by TMA, two load the rows' lse
// and delta, one adds dq up in global memory. Where dq is ordered, one loads lse and delta, and two add.
#pragma once

#include "fmha/pipeline/sm90_bwd_turns.cuh"

namespace portattn::sm90 {

// Loads tiles; one thread.
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
    tile->m_begin = tile->m_end = tile->shared_end = tile->full_rows_begin = tile->full_rows_end = 0;
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
    tile->full_rows_begin = first_row_reaching(tile->visible, end - 1);
    tile->full_rows_end = first_row_past(tile->visible, first + 1);
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
    shared_.full[s].arrive_expect(Problem::kBytesQ + Problem::kBytesDo);
    load_tile<Problem::kBlockQ, Problem::kHeadDimQk>(smem_ + Problem::kOffsetQ + s * Problem::kBytesQ, params_.q,
                                                     shared_.full[s], row, head, batch, kEvictLast);
    load_tile<Problem::kBlockQ, Problem::kHeadDimV>(smem_ + Problem::kOffsetDo + s * Problem::kBytesDo, params_.d_o,
                                                    shared_.full[s], row, head, batch, kEvictLast);
    at_.advance();
  }

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

// Loads lse or delta; one warp each, or one for both. They lie a stride apart, which the copy engine does not gather. A
// step's values are read while the step before is still computed.
template <class Problem>
class BwdWsRowLoader {
 public:
  using Shared = BwdWsShared<Problem>;
  using Walk = typename Problem::Walk;

  PA_DEVICE BwdWsRowLoader(const AttnParams& p, Shared& shared, bool loads_lse, int lane)
      : p_(p), shared_(shared), loads_lse_(loads_lse), lane_(lane) {}

  // Others: loaders that this warp runs as well.
  template <class... Others>
  PA_DEVICE void run(Others... others) {
    if (!loads_lse_ || sizeof...(others) > 0) await_previous_kernel();  // it computes delta
    for_each_tile(shared_, lane_, [&](const BwdWsTile& tile) {
      Walk at(tile);
      if (at.left > 0) read(tile, at), (others.read(tile, at), ...);
      PA_NO_UNROLL
      while (at.left > 0) {
        write(), (others.write(), ...);
        at.advance(tile);
        if (at.left > 0) read(tile, at), (others.read(tile, at), ...);
      }
    });
  }

 private:
  static constexpr int kRows = Problem::kBlockQ / kWarpSize;  // of a lane

  PA_DEVICE void read(const BwdWsTile& tile, const Walk& at) {
    const TensorView& view = loads_lse_ ? p_.lse : p_.delta;
    const int32_t first = at.m * Problem::kBlockQ + lane_, last = tile.q_rows.len - 1;
    const float* rows = row_pointer<const float>(view, tile.item.tile.seq, tile.q_rows, 0, at.head);
    PA_UNROLL
    for (int i = 0; i < kRows; ++i) values_[i] = rows[min_of(first + i * kWarpSize, last) * view.token_stride];
    valid_ = last - first;
  }

  PA_DEVICE void write() {
    const int s = at_.index();
    float* out = (loads_lse_ ? shared_.lse_log2[s] : shared_.minus_delta[s]) + lane_;
    shared_.empty[s].wait(at_.parity() ^ 1);
    PA_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const bool valid = i * kWarpSize <= valid_;
      const float lse =
          valid && values_[i] != neg_inf<float>() ? values_[i] * static_cast<float>(kLog2e) : -neg_inf<float>();
      out[i * kWarpSize] = loads_lse_ ? lse : valid ? -values_[i] : 0.f;
    }
    shared_.full[s].arrive();
    at_.advance();
  }

  const AttnParams& p_;
  Shared& shared_;
  bool loads_lse_;
  int lane_;
  float values_[kRows];
  int32_t valid_;  // rows of this lane end that far on
  RingSlot<Problem::kStages> at_;
};

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
