// Problem: the compile-time facts of one fused attention kernel, the one template argument that its parts take.
// Instances are generated from codegen/kernels.toml (what exists) and codegen/tuning (these numbers).
#pragma once

#include "tile/ops.cuh"

namespace portattn {

// Forward: a block computes kBlockQ rows of o; each warp owns kBlockQ / kWarps whole rows.
template <class T, int HeadDimQk, int HeadDimV, int BlockQ, int BlockKv, int Warps, int MinBlocks, bool Extras>
struct FwdProblem {
  using Element = T;
  using Acc = AccOf<T>;
  static constexpr bool kExtras = Extras;  // see has_extras()
  static constexpr int kHeadDimQk = HeadDimQk;
  static constexpr int kHeadDimV = HeadDimV;
  static constexpr int kBlockQ = BlockQ;
  static constexpr int kBlockKv = BlockKv;
  static constexpr int kWarps = Warps;
  static constexpr int kThreads = Warps * Arch::kWarpSize;
  static constexpr int kMinBlocks = MinBlocks;

  static constexpr int kWarpRows = BlockQ / Warps;
  using ScoreTile = AccTile<Acc, kWarpRows, BlockKv>;
  using OutTile = ResultTile<Acc, kWarpRows, HeadDimV>;

  using SmemQ = SmemTile<T, BlockQ, HeadDimQk>;
  using SmemK = SmemTile<T, BlockKv, HeadDimQk>;
  using SmemV = SmemTile<T, BlockKv, HeadDimV>;
  using SmemO = SmemTile<T, BlockQ, HeadDimV>;
  // o is staged where q was.
  static constexpr int kBytesQ = SmemQ::kBytes > SmemO::kBytes ? SmemQ::kBytes : SmemO::kBytes;
  using SmemP = SmemTile<T, BlockQ, BlockKv>;
  static constexpr int kOffsetP = kBytesQ + SmemK::kBytes + SmemV::kBytes;
  static constexpr int kTileBytes = kOffsetP + (Arch::kStagesOperand<T> ? SmemP::kBytes : 0);
};

// How a backward block's warps tile one of its products: M x N warps.
template <int M, int N>
struct Warps {
  static constexpr int kM = M;
  static constexpr int kN = N;
};

// Backward: a block owns kBlockKv rows of dk and dv and walks over tiles of kBlockQ query rows.
template <class T, int HeadDimQk, int HeadDimV, int BlockQ, int BlockKv, int Stages, class WarpsScore, class WarpsDkv,
          class WarpsDq, int MinBlocks, bool Extras>
struct BwdProblem {
  using Element = T;
  using Acc = AccOf<T>;
  static constexpr bool kExtras = Extras;  // see has_extras()
  static constexpr int kHeadDimQk = HeadDimQk;
  static constexpr int kHeadDimV = HeadDimV;
  static constexpr int kBlockQ = BlockQ;
  static constexpr int kBlockKv = BlockKv;
  static constexpr int kStages = Stages;  // of the query tiles' q, do, lse and delta
  static constexpr int kWarps = WarpsScore::kM * WarpsScore::kN;
  static_assert(kWarps == WarpsDkv::kM * WarpsDkv::kN && kWarps == WarpsDq::kM * WarpsDq::kN, "all warps take part");
  static constexpr int kThreads = kWarps * Arch::kWarpSize;
  static constexpr int kMinBlocks = MinBlocks;

  using ScoreTiling = WarpTiling<BlockQ, BlockKv, WarpsScore::kM, WarpsScore::kN>;
  using DkTiling = WarpTiling<BlockKv, HeadDimQk, WarpsDkv::kM, WarpsDkv::kN>;
  using DvTiling = WarpTiling<BlockKv, HeadDimV, WarpsDkv::kM, WarpsDkv::kN>;
  using DqTiling = WarpTiling<BlockQ, HeadDimQk, WarpsDq::kM, WarpsDq::kN>;
  using ScoreTile = AccTile<Acc, ScoreTiling::kM, ScoreTiling::kN>;
  using DkTile = ResultTile<Acc, DkTiling::kM, DkTiling::kN>;
  using DvTile = ResultTile<Acc, DvTiling::kM, DvTiling::kN>;
  using DqTile = ResultTile<Acc, DqTiling::kM, DqTiling::kN>;

  using SmemQ = SmemTile<T, BlockQ, HeadDimQk>;
  using SmemDo = SmemTile<T, BlockQ, HeadDimV>;
  using SmemK = SmemTile<T, BlockKv, HeadDimQk>;
  using SmemV = SmemTile<T, BlockKv, HeadDimV>;
  using SmemP = SmemTile<T, BlockQ, BlockKv>;  // p, and ds
  static constexpr int kOffsetV = SmemK::kBytes;
  static constexpr int kOffsetP = kOffsetV + SmemV::kBytes;
  static constexpr int kOffsetDs = kOffsetP + SmemP::kBytes;
  static constexpr int kOffsetStages = kOffsetDs + SmemP::kBytes;
  // One stage: q, do, lse [kBlockQ], delta [kBlockQ].
  static constexpr int kStageOffsetDo = SmemQ::kBytes;
  static constexpr int kStageOffsetStats = SmemQ::kBytes + SmemDo::kBytes;
  static constexpr int kStatsBytes = 2 * BlockQ * static_cast<int>(sizeof(float));
  static constexpr int kStageBytes = (kStageOffsetStats + kStatsBytes + 1023) / 1024 * 1024;
  static constexpr int kTileBytes = kOffsetStages + Stages * kStageBytes;
};

// Deterministic dq: a block computes kBlockQ rows of dq; each warp owns whole rows.
template <class T, int HeadDimQk, int HeadDimV, int BlockQ, int BlockKv, int Warps, int MinBlocks, bool Extras>
struct DqProblem {
  using Element = T;
  using Acc = AccOf<T>;
  static constexpr bool kExtras = Extras;  // see has_extras()
  static constexpr int kBlockQ = BlockQ;
  static constexpr int kBlockKv = BlockKv;
  static constexpr int kThreads = Warps * Arch::kWarpSize;
  static constexpr int kMinBlocks = MinBlocks;

  static constexpr int kWarpRows = BlockQ / Warps;
  using ScoreTile = AccTile<Acc, kWarpRows, BlockKv>;
  using DqAcc = ResultTile<Acc, kWarpRows, HeadDimQk>;

  using SmemQ = SmemTile<T, BlockQ, HeadDimQk>;  // also stages dq
  using SmemDo = SmemTile<T, BlockQ, HeadDimV>;
  using SmemK = SmemTile<T, BlockKv, HeadDimQk>;
  using SmemV = SmemTile<T, BlockKv, HeadDimV>;
  using SmemP = SmemTile<T, BlockQ, BlockKv>;  // ds, where mma_rn stages it
  static constexpr int kOffsetP = SmemQ::kBytes + SmemDo::kBytes + SmemK::kBytes + SmemV::kBytes;
  static constexpr int kTileBytes = kOffsetP + (Arch::kStagesOperand<T> ? SmemP::kBytes : 0);
};

}  // namespace portattn
