// Fused backward kernel for sm_90 and head dims above 128 (pipeline/sm90_bwd_wide.cuh): as FmhaBwdWs, whose producer it
// has, but consumers add dq up themselves.
#pragma once

#include "fmha/kernel_bwd_ws.cuh"
#include "fmha/pipeline/sm90_bwd_by_keys.cuh"
#include "fmha/pipeline/sm90_bwd_by_product.cuh"

namespace portattn {

template <class ProblemType>
struct FmhaBwdWide : sm90::BwdBlock<FmhaBwdWide<ProblemType>, ProblemType> {
  using Problem = ProblemType;
  using Shared = sm90::BwdWsShared<Problem>;

  static PA_DEVICE void produce(const sm90::BwdWsParams& params, Shared& shared, const BlockCtx& ctx) {
    if (ctx.tid != 0) return;
    // All items are drawn, the first too: then there is no offset, for which the producer has no register.
    sm90::BwdWsProducer<Problem>(params, ctx.smem, shared).run(atomicAdd(params.attn.next_item, 1));
  }

  static PA_DEVICE void consume(const AttnParams& p, Shared& shared, const BlockCtx& ctx) {
    if constexpr (Problem::kSplitsKeys) {
      serve<sm90::BwdByKeysConsumer<Problem>>(p, shared, ctx);
    } else if (sm90::uniform(ctx.tid / 128) == 1) {
      serve<sm90::BwdByProductConsumer<Problem, sm90::BwdRole::kScores>>(p, shared, ctx);
    } else {
      serve<sm90::BwdByProductConsumer<Problem, sm90::BwdRole::kGradients>>(p, shared, ctx);
    }
  }

 private:
  // Takes tiles until there are none.
  template <class Consumer>
  static PA_DEVICE void serve(const AttnParams& p, Shared& shared, const BlockCtx& ctx) {
    Consumer consumer(p, ctx.smem, shared, ctx.tid - Problem::kMoverThreads);
    uint32_t number = 0;
    for (;;) {
      shared.kv_full[0].wait(number % 2);
      const sm90::BwdWsTile& tile = shared.tile(number);
      if (!tile.exists) break;
      typename Consumer::Sums sums;
      sums.clear();
      if (tile.steps > 0) consumer.run(tile, sums);
      warp_sync();  // all lanes have found the tile, if it was empty
      consumer.release(shared.v_empty);
      consumer.release(shared.k_empty[0]);
      consumer.store(tile, sums);
      number = tile.number + 1;  // from there, since the loop above has no register for it
    }
  }
};

template <class Kernel>
bool takes_fmha_bwd_wide(const AttnParams& p) {
  return takes_fmha_bwd_ws<Kernel>(p);
}

template <class Kernel>
int launch_fmha_bwd_wide(const AttnParams& p, void* stream) {
  return launch_fmha_bwd_ws<Kernel>(p, stream);
}

}  // namespace portattn
