// The frame of an sm_90 backward block: barriers, registers, and who moves data and who computes.
#pragma once

#include "device/launch.cuh"
#include "fmha/pipeline/sm90_bwd_tile.cuh"

namespace portattn::sm90 {

// Kernel: produce(params, shared, ctx) for kMoverThreads, consume(params.attn, shared, ctx) for the others.
template <class Kernel, class Problem>
struct BwdBlock {
  using Params = BwdWsParams;
  static constexpr int kThreads = Problem::kThreads;
  static constexpr int kMinBlocks = 1;
  static constexpr int32_t kPlannedRows = Problem::kPlannedRows;
  static constexpr int kSmemBytes = Problem::kTileBytes + static_cast<int>(sizeof(BwdWsShared<Problem>));

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    if constexpr (kIsSm90a) run(params, ctx);  // elsewhere an empty kernel, which nobody chooses
  }

 private:
  static PA_DEVICE void run(const Params& params, const BlockCtx& ctx) {
    auto& shared = *reinterpret_cast<BwdWsShared<Problem>*>(ctx.smem + Problem::kTileBytes);
    if (ctx.tid == 0) shared.init();
    block_sync();  // the barriers are there
    if (ctx.tid < Problem::kMoverThreads) {
      give_registers<Problem::kProducerRegisters>();
      Kernel::produce(params, shared, ctx);
    } else {
      take_registers<Problem::kConsumerRegisters>();
      Kernel::consume(params.attn, shared, ctx);
    }
  }
};

}  // namespace portattn::sm90
