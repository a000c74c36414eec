// Fused forward kernel for sm_90 (pipeline/sm90_fwd_ws.cuh): resident blocks walk over (query tile, head).
//   q [t_q, h, d_qk], k [t_kv, h_kv, d_qk], v [t_kv, h_kv, d_v] -> o [t_q, h, d_v], lse [t_q, h]
#pragma once

#include "arch/sm90/tensor_map.h"
#include "device/resident.cuh"
#include "fmha/pipeline/sm90_fwd_ws.cuh"

namespace portattn {

template <class ProblemType>
struct FmhaFwdWs : StartsEarly {
  using Problem = ProblemType;
  using Params = sm90::FwdWsParams;
  using T = typename Problem::Element;
  using Shared = sm90::FwdWsShared<Problem>;
  static constexpr int kThreads = Problem::kThreads;
  static constexpr int kMinBlocks = Problem::kMinBlocks;
  static constexpr int32_t kPlannedRows = Problem::kBlockQ;
  static constexpr int kSmemBytes = Problem::kTileBytes + static_cast<int>(sizeof(Shared));

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    if constexpr (sm90::kIsSm90a) run(params, ctx);  // elsewhere an empty kernel, which nobody chooses
  }

 private:
  static PA_DEVICE void run(const Params& params, const BlockCtx& ctx) {
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem + Problem::kTileBytes);
    if (ctx.tid == 0) shared.init();
    block_sync();  // the barriers are there
    await_previous_kernel();
    if (ctx.tid < 128) {
      sm90::give_registers<Problem::kProducerRegisters>();
      if (ctx.tid == 0) sm90::FwdWsLoader<Problem>(params, ctx.smem, shared).run();
      if (ctx.tid == 32) sm90::FwdWsScheduler<Problem>(params, shared).run(ctx.x, ctx.grid_x);
    } else {
      sm90::take_registers<Problem::kConsumerRegisters>();
      sm90::FwdWsConsumer<Problem>(params.attn, ctx.smem, shared, ctx.tid - 128).run();
    }
  }
};

// Longest sequence of queries that the caller allows for.
inline int64_t longest_seqlen_q(const AttnParams& p) {
  return p.max_segment_seqlen_q > 0 ? p.max_segment_seqlen_q : p.q_side.seqlen;
}

template <class Kernel>
int64_t num_items_fmha_fwd_ws(const AttnParams& p) {
  using Problem = typename Kernel::Problem;
  return num_tile_blocks(p.q_side, p.batch, Problem::kBlockQ) * p.num_heads_q * Problem::kParts;
}

template <class Kernel>
bool takes_fmha_fwd_ws(const AttnParams& p) {
  using Problem = typename Kernel::Problem;
  const int64_t least = p.window_right >= 0 ? Problem::kMinSeqlenCausal : Problem::kMinSeqlen;
  return !has_extras(p) && num_items_fmha_fwd_ws<Kernel>(p) <= kMostItems && longest_seqlen_q(p) >= least;
}

template <class Kernel>
int launch_fmha_fwd_ws(const AttnParams& p, void* stream) {
  using Problem = typename Kernel::Problem;
  using T = typename Problem::Element;
  const int64_t items = num_items_fmha_fwd_ws<Kernel>(p);
  if (items == 0) return 0;
  typename Kernel::Params params{p, {}, {}, {}, make_query_order(p, Problem::kBlockQ, sizeof(T), Problem::kParts)};
  sm90::TensorMapEncoder encode(DTypeOf<T>::value);
  encode(&params.q, p.q, p.q_side, p.batch, p.head_dim_qk, p.num_heads_q, Problem::kBlockQ);
  encode(&params.k, p.k, p.kv_side, p.batch, p.head_dim_qk, p.num_heads_kv, Problem::kBlockKv);
  encode(&params.v, p.v, p.kv_side, p.batch, p.head_dim_v, p.num_heads_kv, Problem::kBlockKv);
  if (encode.error() != 0) return encode.error();
  const int64_t blocks = min_of(items, Kernel::kMinBlocks * num_multiprocessors());
  if (items == blocks) params.attn.next_item = nullptr;  // an item each: nothing is left to take
  const bool is_planned = p.q_side.is_thd || p.kv_side.is_thd;
  if (items > blocks && !is_planned) {
    const int error = zero_async(p.next_item, sizeof(int32_t), stream);
    if (error != 0) return error;
  }
  return launch<Kernel>(params, Grid{blocks, 1}, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
