// What the warps of an sm_90 backward block (sm90_bwd_ws.cuh) know of their work: sizes, the tile of keys at hand, the
// steps over the queries that see it, and the barriers by which they hand shared memory over to each other.
#pragma once

#include "arch/sm90/tma.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/visibility.cuh"
#include "attn/work_order.cuh"
#include "tile/reg_tile.cuh"

namespace portattn::sm90 {

struct BwdWsWalk;
struct BwdWsOrderedWalk;

// How dq, a sum over tiles of keys, is added up: by all blocks in any order; in a fixed one (sm90_bwd_turns.cuh); or by
// one block, which takes all tiles of a sequence, last keys first, and writes dq with the first keys.
enum class DqSum { kAnyOrder, kTurns, kOneBlock };

// Seqlen, and SeqlenCausal: queries a sequence, on average, from which on the kernel is taken; or, where dq need not be
// added up so, up to which.
template <class T, int HeadDimQk, int HeadDimV, int BlockQ, DqSum Sum, int Seqlen = 0, int SeqlenCausal = 0>
struct BwdWsProblem {
  using Element = T;
  static constexpr bool kOrdered = Sum == DqSum::kTurns;
  static constexpr bool kOneBlock = Sum == DqSum::kOneBlock;
  static constexpr bool kStoresFirst = Sum != DqSum::kAnyOrder;  // to the scratch, what comes first; the rest is added
  using Walk = std::conditional_t<kOrdered, BwdWsOrderedWalk, BwdWsWalk>;
  static constexpr bool kDrawsAll = kOrdered;  // items, its first too
  static constexpr int64_t kSeqlen = Seqlen, kSeqlenCausal = SeqlenCausal;
  static constexpr int kHeadDimQk = HeadDimQk;
  static constexpr int kHeadDimV = HeadDimV;
  static constexpr int kConsumers = 2;
  static_assert(!kOrdered || kConsumers == DqScratch::kTurns, "each takes turns of its own");
  static constexpr int kBlockQ = BlockQ;
  static constexpr int kBlockKv = 64 * kConsumers;
  static constexpr int32_t kPlannedRows = kOneBlock ? kMaxSeqlen : kBlockKv;  // of an item
  static constexpr int kStages = 2;
  static constexpr int kDsBuffers = kStages;
  static constexpr int kParts = 1;  // of a head, see sm90_bwd_wide_tile.cuh
  // Of k: that of the next tile arrives while this one is computed. Ordered, tiles of 64 queries have no register left
  // to tell one from the other; with tiles of 80 shared memory has no room.
  static constexpr int kKeyBuffers = (kOrdered && BlockQ == 64) || BlockQ == 80 ? 1 : 2;
  // Whether dq is computed as its transpose, dims in rows, of which a product has 64 where a tile has 80 queries.
  static constexpr bool kTransposesDq = BlockQ % 64 != 0;
  // Whether a key is seen by all queries from one on: other masks have no registers in the largest step, and dq is
  // complete at one tile of keys for all queries.
  static constexpr bool kTriangular = BlockQ == 80 || kOneBlock;
  // Warps that add a consumer's dq, a step each in turn: additions in order last as long as a step of 64 queries.
  static constexpr int kAdders = kOrdered && BlockQ == 64 ? 2 : 1;
  // Whether room for dq is waited for as late as can be: one adder that has to wait for its turn makes it late.
  static constexpr bool kStagesLate = kOrdered && kAdders == 1;
  // One for both consumers, but where one keeps the other waiting.
  static constexpr int kAdderWarps = kStoresFirst || BlockQ == 80 ? kConsumers * kAdders : 1;
  static constexpr int kMoverThreads = kAdders > 1 ? 256 : 128;
  static constexpr int kThreads = 128 * kConsumers + kMoverThreads;
  // Together as many as the block was launched with: 168 a thread, or 128.
  static constexpr int kProducerRegisters = kAdders > 1 || BlockQ == 80 ? 24 : 40;
  static constexpr int kConsumerRegisters = BlockQ == 80 ? 240 : 232;
  static constexpr DqUse dq_use() { return DqUse{kOrdered, kStoresFirst, kTransposesDq, kOneBlock}; }
  static_assert(!kTransposesDq || (HeadDimQk == 128 && !kStoresFirst), "the transpose has 64 dims a consumer");
  static_assert(HeadDimQk % kBoxColumns == 0 && HeadDimV % kBoxColumns == 0, "tiles are whole slabs");
  static_assert(BlockQ == 64 || BlockQ == 80 || BlockQ == 128, "dq is shared out by columns or by rows");

  // Which 16 keys of a tile a consumer's thread has.
  static PA_DEVICE int key_warp(int tid) { return tid / 32; }

  // Warps' shares. Consumers share dq out: 64 rows each if the tile has them, else half of the columns.
  static constexpr bool kSplitsRows = BlockQ == 128;
  static constexpr int kDqColumns = kSplitsRows ? HeadDimQk : HeadDimQk / 2;
  // Whether dq is multiplied before dv, so that it is staged while dv is in flight. In larger tiles dv comes
  // first, since p and ds need its registers.
  static constexpr bool kDqFirst = BlockQ < 128;
  // Whether room for ds is waited for before dp: 1 % faster, but in larger tiles slower by as much.
  static constexpr bool kAsksForDsEarly = BlockQ < 128 && !kOrdered;
  // Pairs of lse that wait in registers for the scores: as many as are faster so.
  static constexpr int kLseAhead = BlockQ == 128 ? 6 : BlockQ == 80 ? 5 : kOrdered ? 3 : 4;
  // Whether the step exists once for each slot; twice the larger one does not fit the instruction cache.
  static constexpr bool kUnrollsSlots = BlockQ == 64;
  using ScoreTile = AccTile<float, 16, BlockQ>;  // rows are keys
  using DkTile = AccTile<float, 16, HeadDimQk>;
  using DvTile = AccTile<float, 16, HeadDimV>;
  using DqTile = AccTile<float, 16, kTransposesDq ? BlockQ : kDqColumns>;

  static constexpr int kBytesK = kBlockKv * HeadDimQk * 2;
  static constexpr int kBytesV = kBlockKv * HeadDimV * 2;
  static constexpr int kBytesQ = BlockQ * HeadDimQk * 2;
  static constexpr int kBytesDo = BlockQ * HeadDimV * 2;
  static constexpr int kBytesDs = kBlockKv * BlockQ * 2;
  static constexpr int kOffsetV = kKeyBuffers * kBytesK;
  static constexpr int kOffsetQ = kOffsetV + kBytesV;
  static constexpr int kOffsetDo = kOffsetQ + kStages * kBytesQ;
  static constexpr int kOffsetDs = kOffsetDo + kStages * kBytesDo;
  static constexpr int kOffsetDq = kOffsetDs + kStages * kBytesDs;
  // dq of a consumer: groups of 16 rows, as they lie in the scratch.
  static constexpr int kDqGroups = (kSplitsRows ? 64 : BlockQ) / DqScratch::kRows;
  static constexpr int kBytesDqGroup = DqScratch::kRows * kDqColumns * 4;
  static constexpr int kBytesDq = kDqGroups * kBytesDqGroup;
  static constexpr int kTileBytes = kOffsetDq + kConsumers * kBytesDq;
};

struct BwdWsParams {
  AttnParams attn;
  CUtensorMap q, k, v, d_o;
  WorkOrder order;
  int32_t given;  // items that are not drawn: each block's first one, unless it draws all
};

// One tile of keys and the queries that see it, as the producer describes it to the others.
struct BwdWsTile {
  WorkItem item;  // head: of k and v
  SeqRows q_rows, kv_rows;
  TileRows rows;
  Visibility visible;
  int32_t m_begin, m_end;          // query tiles that see any key, of every query head
  int32_t first_head, steps;       // of the query heads; over all of them and all those query tiles
  int32_t plain_begin, plain_end;  // query tiles in this range are whole, and see all keys
  uint32_t number;                 // among the block's tiles
  bool exists;                     // false: there is no more work
  // Where dq is added in an order: the walk over the query tiles, the block before this one in the order, and the query
  // tiles that see keys of it.
  int32_t m_first, m_last, m_step;
  int32_t before, shared_begin, shared_end;

  PA_DEVICE bool shares(int32_t m) const { return m >= shared_begin && m < shared_end; }

  int32_t part;  // of a head that has several
};

// What the warps that move data share with the consumers, after the tiles in shared memory.
template <class Problem>
struct BwdFeedShared {
  static constexpr int kStages = Problem::kStages;
  // Of tiles, in turn. described: for helper warps; they have added a tile's last dq when they have followed it.
  // kv_full: k and v are there.
  static constexpr int kKeyBuffers = Problem::kKeyBuffers;
  Barrier described[2], followed[2], kv_full[kKeyBuffers], k_empty[kKeyBuffers], v_empty;
  Barrier full[kStages], empty[kStages];
  alignas(16) float lse_log2[kStages][Problem::kBlockQ];     // +inf for rows that see nothing
  alignas(16) float minus_delta[kStages][Problem::kBlockQ];  // past a sequence's rows both are cleared
  // Of tiles: the one that consumers may still store, the one being loaded, and the next.
  static constexpr int kTileSlots = 3;
  alignas(16) char tiles[kTileSlots][sizeof(BwdWsTile)];

  PA_DEVICE BwdWsTile& tile(uint32_t number) { return reinterpret_cast<BwdWsTile&>(tiles[number % kTileSlots]); }

  PA_DEVICE void init_feed() {
    v_empty.init(Problem::kConsumers * 4);
    for (int i = 0; i < 2 && Problem::kAdderWarps > 0; ++i) {
      described[i].init(1);
      followed[i].init(Problem::kAdderWarps);
    }
    for (int b = 0; b < kKeyBuffers; ++b) {
      kv_full[b].init(1);
      k_empty[b].init(Problem::kConsumers * 4);
    }
    for (int s = 0; s < kStages; ++s) {
      full[s].init(1);
      empty[s].init(Problem::kConsumers * 4);
    }
  }
};

template <class Problem>
struct BwdWsShared : BwdFeedShared<Problem> {
  static constexpr int kStages = Problem::kStages;
  static constexpr int kConsumers = Problem::kConsumers;
  Barrier ds_full[kStages], ds_empty[kStages], dq_full[kConsumers][Problem::kAdders], dq_empty[kConsumers];

  PA_DEVICE void init() {
    this->init_feed();
    for (int s = 0; s < kStages; ++s) {
      ds_full[s].init(kConsumers * 4);
      ds_empty[s].init(kConsumers * 4);
    }
    for (int c = 0; c < kConsumers; ++c) {
      for (int a = 0; a < Problem::kAdders; ++a) dq_full[c][a].init(4);
      dq_empty[c].init(1);
    }
    fence_barrier_init();
  }
};

// The steps over the query tiles that see a tile of keys, query head by query head, from `first` to `last`.
struct BwdWsWalk {
  int32_t head, m, left;
  PA_DEVICE explicit BwdWsWalk(const BwdWsTile& tile) : head(tile.first_head), m(first(tile)), left(tile.steps) {}
  PA_DEVICE void advance(const BwdWsTile& tile) {
    m = next(m, first(tile), last(tile));
    if (m == first(tile)) ++head;
    --left;
  }
  static PA_DEVICE int32_t first(const BwdWsTile& tile) { return tile.m_begin; }
  static PA_DEVICE int32_t last(const BwdWsTile& tile) { return tile.m_end - 1; }
  // The query tile after m; after the last one of a head, the first of the next.
  static PA_DEVICE int32_t next(int32_t m, int32_t first, int32_t last) { return m == last ? first : m + 1; }
};

// The same for tiles that wait for the one before them, in the direction in which that one walks ahead: up where last
// keys add first; else down, so that where windows end a tile meets queries of its own first, shared ones after that
// tile.
struct BwdWsOrderedWalk {
  int32_t head, m, left;
  PA_DEVICE explicit BwdWsOrderedWalk(const BwdWsTile& tile)
      : head(tile.first_head), m(tile.m_first), left(tile.steps) {}
  PA_DEVICE void advance(const BwdWsTile& tile) {
    const bool wraps = m == tile.m_last;
    m = wraps ? tile.m_first : m + tile.m_step;
    head += wraps;
    --left;
  }
  static PA_DEVICE int32_t first(const BwdWsTile& tile) { return tile.m_first; }
  static PA_DEVICE int32_t last(const BwdWsTile& tile) { return tile.m_last; }
  static PA_DEVICE int32_t next(int32_t m, int32_t first, int32_t last) {
    return m == last ? first : first < last ? m + 1 : m - 1;
  }
};

}  // namespace portattn::sm90
