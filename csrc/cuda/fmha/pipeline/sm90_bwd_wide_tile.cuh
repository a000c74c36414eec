// Sizes and barriers of the sm_90 backward for wide heads: the counterpart of what sm90_bwd_tile.cuh says of narrow
// ones. A tile has 128 keys where dk and dv of 64 keys fit in the registers of a warpgroup, else 64. Of heads above 256
// it is a part of so many columns of dk, dv and dq, with all scores: s and dp are computed once for each part.
#pragma once

#include "fmha/pipeline/sm90_bwd_tile.cuh"

namespace portattn::sm90 {

template <class T, int HeadDimQk, int HeadDimV, int BlockKv>
struct BwdWideProblem {
  using Element = T;
  using Walk = BwdWsWalk;
  static constexpr bool kOrdered = false, kOneBlock = false, kStoresFirst = false;  // see DqSum
  static constexpr DqUse dq_use() { return DqUse{}; }
  static constexpr bool kDrawsAll = true;
  static constexpr int64_t kSeqlen = 0, kSeqlenCausal = 0;
  static constexpr int kAdderWarps = 0;
  static constexpr bool kTriangular = false;
  static constexpr bool kTransposesDq = false;
  static constexpr int kHeadDimQk = HeadDimQk;
  static constexpr int kHeadDimV = HeadDimV;
  static constexpr int kConsumers = 2;
  static constexpr bool kInParts = HeadDimQk > 256 || HeadDimV > 256;
  static constexpr int kParts = kInParts ? 2 : 1;
  static constexpr int kPartQk = HeadDimQk / kParts;
  static constexpr int kPartV = HeadDimV / kParts;
  // What shared memory has room for beside the keys.
  static constexpr int kBlockQ = kInParts ? 32 : 64;
  static constexpr int kBlockKv = BlockKv;
  static constexpr int32_t kPlannedRows = BlockKv;
  static constexpr bool kSplitsKeys = BlockKv == 128;  // between consumers; else they share out dv and dk
  static constexpr int kStages = kInParts ? 1 : 2;
  static constexpr int kDsBuffers = 2;
  static constexpr int kKeyBuffers = 1;
  static constexpr int kMoverThreads = 128;
  static constexpr int kThreads = 128 * kConsumers + kMoverThreads;
  // Together as many as the block was launched with: 168 a thread.
  static constexpr int kProducerRegisters = 24;
  static constexpr int kConsumerRegisters = 240;
  static_assert(HeadDimQk % kBoxColumns == 0 && HeadDimV % kBoxColumns == 0, "tiles are whole slabs");
  static_assert(BlockKv == 64 || BlockKv == 128, "a consumer has 64 keys");

  // Which 16 keys of a tile a consumer's thread has.
  static PA_DEVICE int key_warp(int tid) { return tid / 32 % (BlockKv / 16); }

  // A consumer's half of dq's columns comes in two tiles: the outer slab, and what is left of the inner ones.
  static constexpr int kInnerColumns = kPartQk / 2 - kBoxColumns;
  using ScoreTile = AccTile<float, 16, kBlockQ>;  // rows are keys
  using DkTile = AccTile<float, 16, kPartQk>;
  using DvTile = AccTile<float, 16, kPartV>;
  using OuterDqTile = AccTile<float, 16, kBoxColumns>;
  using InnerDqTile = AccTile<float, 16, kInnerColumns>;

  static constexpr int kBytesK = kBlockKv * HeadDimQk * 2;
  static constexpr int kBytesV = kBlockKv * HeadDimV * 2;
  static constexpr int kBytesQ = kBlockQ * HeadDimQk * 2;
  static constexpr int kBytesDo = kBlockQ * HeadDimV * 2;
  // A whole slab, though queries may fill half of it: dq has 64 rows, of which the others are anything.
  static constexpr int kBytesDs = kBlockKv * kSlabBytes;
  static constexpr int kOffsetV = kBytesK;
  static constexpr int kOffsetQ = kOffsetV + kBytesV;
  static constexpr int kOffsetDo = kOffsetQ + kStages * kBytesQ;
  static constexpr int kOffsetDs = kOffsetDo + kStages * kBytesDo;
  static constexpr int kTileBytes = kOffsetDs + kDsBuffers * kBytesDs;
};

template <class T, int HeadDimQk, int HeadDimV, int BlockKv>
struct BwdWsShared<BwdWideProblem<T, HeadDimQk, HeadDimV, BlockKv>>
    : BwdFeedShared<BwdWideProblem<T, HeadDimQk, HeadDimV, BlockKv>> {
  using Problem = BwdWideProblem<T, HeadDimQk, HeadDimV, BlockKv>;
  static constexpr int kDsBuffers = Problem::kDsBuffers;
  Barrier p_full[kDsBuffers], ds_full[kDsBuffers], ds_empty[kDsBuffers];

  PA_DEVICE void init() {
    this->init_feed();
    for (int s = 0; s < kDsBuffers; ++s) {
      p_full[s].init(4);
      ds_full[s].init(Problem::kBlockKv / 16);
      ds_empty[s].init(Problem::kConsumers * 4);
    }
    fence_barrier_init();
  }
};

}  // namespace portattn::sm90
