// d_softmax_offset[h] = -sum over rows of exp(softmax_offset[h] - lse) * delta. One block a head; its threads take rows
// in turn and the partial sums are added in a fixed order, so the result is bitwise reproducible.
#pragma once

#include "attn/token_rows.cuh"
#include "device/launch.cuh"
#include "device/scan.cuh"

namespace portattn {

struct SinkGradKernel {
  using Params = AttnParams;
  static constexpr int kThreads = kWarpSize == 1 ? 1 : 1024;
  static constexpr int kMinBlocks = 1;
  static constexpr int kSmemBytes = kThreads / kWarpSize * static_cast<int>(sizeof(double));

  PA_DEVICE void operator()(const AttnParams& p, const BlockCtx& ctx) const {
    const int32_t head = ctx.x;
    const float offset = p.softmax_offset[head];
    double sum = 0.;
    for (int64_t i = ctx.tid; i < num_token_rows(p.q_side, p.batch); i += kThreads) {
      const TokenRow row(p.q_side, i);
      const float delta = *row.pointer<const float>(p.delta, head);
      if (delta == 0.f) continue;  // padding rows, whose lse is -inf, among others
      const float lse = *row.pointer<const float>(p.lse, head);
      sum -= fast_exp2((offset - lse) * static_cast<float>(kLog2e)) * delta;
    }
    const auto sums = block_inclusive_scan<kThreads>(sum, reinterpret_cast<double*>(ctx.smem), ctx.tid,
                                                     [](double a, double b) { return a + b; });
    if (ctx.tid == 0) p.d_softmax_offset[head] = static_cast<float>(sums.total);
  }
};

}  // namespace portattn
