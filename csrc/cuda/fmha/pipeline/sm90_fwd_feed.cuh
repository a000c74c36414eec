// Forward of sm_90: tiles of work, how they lie in shared memory, and the two threads that feed the consumers of
// sm90_fwd_ws.cuh. The scheduler takes work and describes it, the loader fetches it by TMA: reading the plan, offsets
// and lengths of one tile then never holds up the keys of another.
#pragma once

#include "arch/sm90/tma.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/visibility.cuh"
#include "attn/work_order.cuh"

namespace portattn::sm90 {

// Shared memory for the tiles of all blocks of a multiprocessor; the rest is for what warps tell each other.
constexpr int kMaxTileBytes = 224 * 1024;

// Forward: a block has `Consumers` warpgroups of 64 query rows, and one that feeds them. MinSeqlen, and MinSeqlenCausal
// under a causal mask: how long sequences may have to be for the kernel to be worth choosing.
template <class T, int HeadDimQk, int HeadDimV, int Consumers, int BlockKv, int Stages, int MinSeqlen,
          int MinSeqlenCausal>
struct FwdWsProblem {
  using Element = T;
  static constexpr int kHeadDimQk = HeadDimQk;
  static constexpr int kHeadDimV = HeadDimV;
  static constexpr int kConsumers = Consumers;
  static constexpr int kBlockQ = 64 * Consumers;
  static constexpr int kBlockKv = BlockKv;
  static constexpr int kStages = Stages;
  static constexpr int kMinSeqlen = MinSeqlen;
  static constexpr int kMinSeqlenCausal = MinSeqlenCausal;
  static constexpr int kThreads = 128 * (Consumers + 1);
  static constexpr int kMinBlocks = Consumers == 1 ? 2 : 1;

  static constexpr int kProducerRegisters = Consumers == 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = Consumers == 1 ? 224 : Consumers == 2 ? 232 : 160;
  static constexpr int kLaunchRegisters = 65536 / (kThreads * kMinBlocks) / 8 * 8;
  static_assert(kProducerRegisters + Consumers * kConsumerRegisters <= (Consumers + 1) * kLaunchRegisters,
                "warpgroups share out what the block was launched with, or they would wait for more forever");

  // Registers hold 256 columns of o. Of wider heads a tile of work is a part of so many columns, with all scores.
  static constexpr int kPartV = HeadDimV < 256 ? HeadDimV : 256;
  static constexpr int kParts = (HeadDimV + kPartV - 1) / kPartV;
  // Whether each consumer clears all rows past a sequence for itself: the same zeros, but nobody waits. Up to 5 %
  // faster for short sequences; at other head dims what ptxas makes of it is 1 to 3 % slower for long ones.
  static constexpr bool kClearsAlone = HeadDimQk == 128;
  using ScoreTile = AccTile<float, 16, BlockKv>;  // a warp's share
  using OutTile = AccTile<float, 16, kPartV>;

  // Tiles in shared memory are whole slabs; what a head dim leaves of its last one arrives as 0.
  static constexpr int kColsQk = (HeadDimQk + kBoxColumns - 1) / kBoxColumns * kBoxColumns;
  static constexpr int kColsV = (kPartV + kBoxColumns - 1) / kBoxColumns * kBoxColumns;
  static constexpr int kBytesQ = kBlockQ * kColsQk * 2;
  static constexpr int kBytesK = BlockKv * kColsQk * 2;
  static constexpr int kBytesV = BlockKv * kColsV * 2;
  // With one stage the next keys arrive where these are, half a head at a time.
  static constexpr int kKeyParts = Stages == 1 ? 2 : 1;
  static constexpr int kKeySlots = Stages * kKeyParts;
  // Two where there is room: then a tile's first product runs while the one before is stored.
  static constexpr int kQueryBuffers =
      kMinBlocks * (2 * kBytesQ + Stages * (kBytesK + kBytesV)) <= kMaxTileBytes ? 2 : 1;
  static constexpr int kOffsetK = kQueryBuffers * kBytesQ;
  static constexpr int kOffsetV = kOffsetK + Stages * kBytesK;
  static constexpr int kTileBytes = kOffsetV + Stages * kBytesV;
};

struct FwdWsParams {
  AttnParams attn;
  CUtensorMap q, k, v;
  WorkOrder order;
};

// One tile of queries, as the scheduler describes it to all.
struct FwdWsTile {
  WorkItem item;
  SeqRows q_rows;
  int32_t kv_start;  // row of the sequence's first key
  TileRows rows;
  BlockRange blocks;
  Visibility visible;
  bool exists;        // false: there is no more work
  int32_t first_col;  // of o and v

  PA_DEVICE bool is_empty() const { return blocks.begin >= blocks.end; }
};

// Three tiles are described at a time: the one that consumers may still store, the one being computed, and the next.
constexpr int kTileSlots = 3;

// What the warps of a block share, after the tiles in shared memory.
template <class Problem>
struct FwdWsShared {
  static constexpr int kBuffers = Problem::kQueryBuffers, kStages = Problem::kStages;
  static constexpr int kKeySlots = Problem::kKeySlots;

  Barrier tile_full[kTileSlots], tile_empty[kTileSlots];
  Barrier next_wanted;  // a phase a tile: the loader is coming to its end
  Barrier q_full[kBuffers], q_empty[kBuffers];
  Barrier k_full[kKeySlots], k_empty[kKeySlots], v_full[kStages], v_empty[kStages];
  alignas(16) char tiles[kTileSlots][sizeof(FwdWsTile)];

  PA_DEVICE FwdWsTile& tile(int slot) { return reinterpret_cast<FwdWsTile&>(tiles[slot]); }

  // One thread; the block has to synchronise.
  PA_DEVICE void init() {
    constexpr int kConsumerWarps = Problem::kConsumers * 4;
    init_ring(tile_full, tile_empty, kConsumerWarps);
    init_ring(q_full, q_empty, kConsumerWarps);
    init_ring(k_full, k_empty, kConsumerWarps);
    init_ring(v_full, v_empty, kConsumerWarps);
    next_wanted.init(1);
    fence_barrier_init();
  }

 private:
  template <int Count>
  static PA_DEVICE void init_ring(Barrier (&full)[Count], Barrier (&empty)[Count], int readers) {
    for (int i = 0; i < Count; ++i) {
      full[i].init(1);
      empty[i].init(readers);
    }
  }
};

// One thread, whose warpgroup has given its registers to the others: what it stores it reads back from shared memory.
template <class Problem>
class FwdWsScheduler {
 public:
  using Shared = FwdWsShared<Problem>;

  PA_DEVICE FwdWsScheduler(const FwdWsParams& params, Shared& shared)
      : params_(params), p_(params.attn), shared_(shared) {}

  // Takes item `first`, then whichever comes next for all blocks, which took `step` at the start; as late as the loader
  // allows, so that the last items go to blocks that are free.
  PA_DEVICE void run(int32_t first, int32_t step) const {
    const int32_t num_steps = params_.order.steps(p_.q_side), items = params_.order.lanes * num_steps;
    RingSlot<kTileSlots> at;
    int32_t index = first;
    PA_NO_UNROLL
    for (;; at.advance()) {
      shared_.tile_empty[at.index()].wait(at.parity() ^ 1);
      FwdWsTile* tile = opaque(&shared_.tile(at.index()));
      tile->exists = index < items;
      if (index < items) describe(tile, index, num_steps);
      shared_.tile_full[at.index()].arrive();
      if (index >= items) return;
      shared_.next_wanted.wait(at.count % 2);
      index = p_.next_item == nullptr ? items : step + atomicAdd(p_.next_item, 1);
    }
  }

 private:
  PA_DEVICE void describe(FwdWsTile* tile, int32_t index, int32_t num_steps) const {
    tile->item = params_.order.item(p_.q_side, index, num_steps);
    if constexpr (Problem::kParts > 1) {
      tile->first_col = tile->item.head % Problem::kParts * Problem::kPartV;
      tile->item.head /= Problem::kParts;
    }
    tile = opaque(tile);
    tile->q_rows = seq_rows(p_.q_side, p_.batch, tile->item.tile.seq);
    tile->rows = TileRows(tile->q_rows, tile->item.tile.block, Problem::kBlockQ);
    tile = opaque(tile);
    const SeqRows kv_rows = seq_rows(p_.kv_side, p_.batch, tile->item.tile.seq);
    tile->kv_start = static_cast<int32_t>(kv_rows.start);
    tile->visible = Visibility(p_, tile->q_rows.len, kv_rows.len);
    tile = opaque(tile);
    tile->blocks = BlockRange{0, 0, 0, 0};
    if (tile->rows.valid > 0) {
      tile->blocks = key_blocks(tile->visible, tile->rows.first, tile->rows.valid, Problem::kBlockKv);
    }
  }

  const FwdWsParams& params_;
  const AttnParams& p_;
  Shared& shared_;
};

// One thread.
template <class Problem>
class FwdWsLoader {
 public:
  using Shared = FwdWsShared<Problem>;

  PA_DEVICE FwdWsLoader(const FwdWsParams& params, char* smem, Shared& shared)
      : params_(params), p_(params.attn), smem_(smem), shared_(shared) {}

  // Loads what the scheduler describes, and passes the end on.
  PA_DEVICE void run() {
    prefetch_map(params_.q);
    if (p_.kv_side.seqlen > 0) {
      prefetch_map(params_.k);
      prefetch_map(params_.v);
    }
    RingSlot<kTileSlots> described;
    RingSlot<Problem::kQueryBuffers> buffer;
    PA_NO_UNROLL
    for (;; described.advance(), buffer.advance()) {
      shared_.tile_full[described.index()].wait(described.parity());
      shared_.q_empty[buffer.index()].wait(buffer.parity() ^ 1);
      const FwdWsTile& tile = *opaque(&shared_.tile(described.index()));
      if (!tile.exists) break;
      if (tile.is_empty()) {
        shared_.q_full[buffer.index()].arrive();
        shared_.next_wanted.arrive();
      } else {
        load_queries(tile, buffer.index());
        load_keys_and_values(tile);
      }
    }
    shared_.q_full[buffer.index()].arrive();
  }

 private:
  PA_DEVICE void load_queries(const FwdWsTile& tile, int buffer) const {
    const int32_t row = static_cast<int32_t>(tile.q_rows.start) + tile.rows.first;
    const int32_t batch = p_.q_side.is_thd ? 0 : tile.item.tile.seq;
    shared_.q_full[buffer].arrive_expect(Problem::kBytesQ);
    load_tile<Problem::kBlockQ, Problem::kColsQk>(smem_ + buffer * Problem::kBytesQ, params_.q, shared_.q_full[buffer],
                                                  row, tile.item.head, batch, kEvictFirst);
  }

  // From the last key block to the first. With one stage a block's values come after the keys of the next: these may
  // come when scores are done, values when they have been added, which is later.
  PA_DEVICE void load_keys_and_values(const FwdWsTile& tile) {
    constexpr bool kValuesLate = Problem::kStages == 1;
    const int32_t head = tile.item.head / (p_.num_heads_q / p_.num_heads_kv);
    const int32_t batch = p_.kv_side.is_thd ? 0 : tile.item.tile.seq;
    const int32_t first_col = Problem::kParts > 1 ? tile.first_col : 0;
    const int32_t begin = tile.kv_start + tile.blocks.begin * Problem::kBlockKv;
    int32_t row = tile.kv_start + (tile.blocks.end - 1) * Problem::kBlockKv;
    const int32_t nearly_done = min_of(row, begin + Problem::kBlockKv);
    if (kValuesLate) load_keys(row, head, batch);
    PA_NO_UNROLL
    for (; row >= begin; row -= Problem::kBlockKv) {
      if (row == nearly_done) shared_.next_wanted.arrive();
      const RingSlot<Problem::kStages> slot = at_;
      if constexpr (kValuesLate) {
        at_.advance();
        if (row > begin) load_keys(row - Problem::kBlockKv, head, batch);
        load_values(slot, row, head, batch, first_col);
      } else {
        load_keys(row, head, batch);
        load_values(slot, row, head, batch, first_col);
        at_.advance();
      }
    }
  }

  PA_DEVICE void load_keys(int32_t row, int32_t head, int32_t batch) const {
    constexpr int kCols = Problem::kColsQk / Problem::kKeyParts, kBytes = Problem::kBytesK / Problem::kKeyParts;
    PA_UNROLL
    for (int part = 0; part < Problem::kKeyParts; ++part) {
      const int s = at_.index() * Problem::kKeyParts + part;
      shared_.k_empty[s].wait(at_.parity() ^ 1);
      shared_.k_full[s].arrive_expect(kBytes);
      load_tile<Problem::kBlockKv, kCols>(smem_ + Problem::kOffsetK + s * kBytes, params_.k, shared_.k_full[s], row,
                                          head, batch, kEvictLast, part * kCols);
    }
  }
  PA_DEVICE void load_values(const RingSlot<Problem::kStages>& slot, int32_t row, int32_t head, int32_t batch,
                             int32_t first_col) const {
    const int s = slot.index();
    shared_.v_empty[s].wait(slot.parity() ^ 1);
    shared_.v_full[s].arrive_expect(Problem::kBytesV);
    load_tile<Problem::kBlockKv, Problem::kColsV>(smem_ + Problem::kOffsetV + s * Problem::kBytesV, params_.v,
                                                  shared_.v_full[s], row, head, batch, kEvictLast, first_col);
  }

  const FwdWsParams& params_;
  const AttnParams& p_;
  char* smem_;
  Shared& shared_;
  RingSlot<Problem::kStages> at_;
};

}  // namespace portattn::sm90
