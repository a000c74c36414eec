// Spans without tiles, for very many sequences: every block places a chunk of slots, after finding for itself how far
// the sequences before its chunk reach. That reads offsets again and again, but from cache and all blocks at once.
#pragma once

#include "thd/seq_plan.cuh"

namespace portattn {

struct SpanPlanKernel {
  struct Params {
    SeqPlanParams plan;
    int64_t chunk;  // slots of a block
  };
  static constexpr int kThreads = SeqPlanKernel::kThreads;
  static constexpr int kMinBlocks = 1;
  static constexpr int kSmemBytes = kThreads / kWarpSize * static_cast<int>(sizeof(int32_t));

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    let_next_kernel_start();
    SeqPlanKernel::zero_next_item(params.plan, ctx);
    const SidePlanRequest& side = ctx.y == 0 ? params.plan.q : params.plan.kv;
    if (side.spans == nullptr) return;
    int32_t* scan = reinterpret_cast<int32_t*>(ctx.smem);
    const int64_t begin = ctx.x * params.chunk;
    const int64_t end = min_of<int64_t>(begin + params.chunk, int64_t{params.plan.batch} + 1);
    int32_t end_before = largest_end(side, begin - 2, scan, ctx.tid);  // slot n looks at sequence n - 2 itself
    for (int64_t first = begin; first < end; first += kThreads) {
      SeqPlanKernel::place_span(side, params.plan.batch, first + ctx.tid, scan, ctx.tid, &end_before);
    }
  }

 private:
  // Of sequences [0, count).
  static PA_DEVICE int32_t largest_end(const SidePlanRequest& side, int64_t count, int32_t* scan, int tid) {
    const ClaimedSpans claimed(side);
    int32_t largest = 0;
    for (int64_t i = tid; i < count; i += kThreads) largest = max_of(largest, claimed.end(i));
    return block_inclusive_scan<kThreads>(largest, scan, tid, [](int32_t a, int32_t b) { return max_of(a, b); }).total;
  }
};

// Few enough slots a block that all multiprocessors help, and enough that the offsets are not read too often.
inline int run_span_plan(const SeqPlanParams& plan, void* stream) {
  constexpr int64_t kMostBlocks = 128, kRound = 1024;
  static_assert(kRound % SpanPlanKernel::kThreads == 0, "a chunk is made of whole rounds of a block");
  const int64_t slots = int64_t{plan.batch} + 1;
  const int64_t chunk = ceil_div(slots, kMostBlocks * kRound) * kRound;
  const Grid grid{ceil_div(slots, chunk), 2};
  return launch<SpanPlanKernel>(SpanPlanKernel::Params{plan, chunk}, grid, SpanPlanKernel::kSmemBytes, stream);
}

}  // namespace portattn
