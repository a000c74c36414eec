// Fused backward kernel for sm_90 (pipeline/sm90_bwd_ws.cuh): resident blocks walk over (key tile, kv head), and add dq
// into a float buffer; what order that has, and who writes dq, tells DqSum (pipeline/sm90_bwd_tile.cuh).
//   q [t_q, h, d_qk], k, dk [t_kv, h_kv, d_qk], v, dv [t_kv, h_kv, d_v], do [t_q, h, d_v], lse, delta [t_q, h]
#pragma once

#include "arch/sm90/tensor_map.h"
#include "device/resident.cuh"
#include "fmha/pipeline/sm90_bwd_block.cuh"
#include "fmha/pipeline/sm90_bwd_feed.cuh"
#include "fmha/pipeline/sm90_bwd_ws.cuh"
#include "fmha/pipeline/sm90_store_rows.cuh"

namespace portattn {

template <class ProblemType>
struct FmhaBwdWs : StartsEarly, sm90::BwdBlock<FmhaBwdWs<ProblemType>, ProblemType> {
  using Problem = ProblemType;
  using Params = sm90::BwdWsParams;
  using T = typename Problem::Element;
  using Shared = sm90::BwdWsShared<Problem>;

  static PA_DEVICE void produce(const Params& params, Shared& shared, const BlockCtx& ctx) {
    using DqAdder = sm90::BwdWsDqAdder<Problem>;
    const AttnParams& p = params.attn;
    const int warp = ctx.tid / 32;
    if (warp > 0 && warp <= Problem::kAdderWarps) DqAdder(p, ctx.smem, shared, ctx.tid - 32).run();
    if (ctx.tid != 0) return;
    sm90::BwdWsProducer<Problem> producer(params, ctx.smem, shared);
    if constexpr (Problem::kDrawsAll) {
      // Whatever is waited for has then been drawn by a block that runs.
      await_previous_kernel();  // it zeroes next_item
      producer.run(atomicAdd(p.next_item, 1));
    } else {
      producer.run(ctx.x);
    }
  }

  static PA_DEVICE void consume(const AttnParams& p, Shared& shared, const BlockCtx& ctx) {
    const int tid = ctx.tid - Problem::kMoverThreads;
    sm90::BwdWsConsumer<Problem> consumer(p, ctx.smem, shared, tid);
    uint32_t number = 0;
    for (;;) {
      const sm90::RingSlot<Problem::kKeyBuffers> keys{number};
      shared.kv_full[keys.index()].wait(keys.parity());
      const sm90::BwdWsTile& tile = shared.tile(number);
      if (!tile.exists) break;
      typename Problem::DkTile dk;
      typename Problem::DvTile dv;
      dk.fill(0.f);
      dv.fill(0.f);
      if (tile.steps > 0) {
        consumer.run(tile, dk, dv);
      } else {
        warp_sync();  // all lanes have found the tile
        consumer.release(shared.v_empty);
        consumer.release(shared.k_empty[keys.index()]);
      }
      store(p, tile, dk, dv, tid);
      number = tile.number + 1;  // from there, since the loop above has no register for it
    }
  }

 private:
  static PA_DEVICE void store(const AttnParams& p, const sm90::BwdWsTile& tile, const typename Problem::DkTile& dk,
                              const typename Problem::DvTile& dv, int tid) {
    const int lane = tid % 32, first = tid / 32 * 16;
    const int32_t seq = tile.item.tile.seq, row = tile.rows.first + first;
    const int valid = tile.rows.valid - first, total = tile.rows.total - first;
    sm90::store_rows(row_pointer<T>(p.dk, seq, tile.kv_rows, row, tile.item.head), p.dk.token_stride, dk, p.attn_scale,
                     valid, total, p.head_dim_qk, lane);
    sm90::store_rows(row_pointer<T>(p.dv, seq, tile.kv_rows, row, tile.item.head), p.dv.token_stride, dv, 1.f, valid,
                     total, p.head_dim_v, lane);
  }
};

template <class Kernel>
int64_t num_items_fmha_bwd_ws(const AttnParams& p) {
  return num_tile_blocks(p.kv_side, p.batch, Kernel::kPlannedRows) * p.num_heads_kv * Kernel::Problem::kParts;
}

// Whether all multiprocessors have work to the end where each takes whole sequences, a kv head at a time: rounds of
// equal ones are nearly full, or the longest promised is what a multiprocessor gets in less than two thirds of the
// time, all others being of average length at least.
inline bool sequences_fill_device(const AttnParams& p) {
  const int64_t devices = num_multiprocessors(), items = int64_t{p.batch} * p.num_heads_kv;
  if (!p.q_side.is_thd && !p.kv_side.is_thd) return 10 * items >= 9 * ceil_div(items, devices) * devices;
  const double longest = static_cast<double>(p.max_segment_seqlen_q) * p.max_segment_seqlen_kv;
  const double average =
      static_cast<double>(rows_of_sequence(p.q_side, p.batch)) * rows_of_sequence(p.kv_side, p.batch);
  return longest > 0 && longest * devices <= average * items * (2. / 3.);
}

template <class Kernel>
bool takes_fmha_bwd_ws(const AttnParams& p) {
  using Problem = typename Kernel::Problem;
  if (has_extras(p) || num_items_fmha_bwd_ws<Kernel>(p) > kMostItems) return false;
  // Of a transpose, 16 dims lie together in the scratch.
  if (Problem::kTransposesDq && p.head_dim_qk % 16 != 0) return false;
  if (Problem::kTriangular && !is_triangular(p)) return false;
  const int64_t rows = rows_of_sequence(p.q_side, p.batch);
  const int64_t bound = p.window_right >= 0 ? Problem::kSeqlenCausal : Problem::kSeqlen;
  if constexpr (Problem::kOneBlock) return rows <= bound && sequences_fill_device(p);
  if constexpr (!Problem::kOrdered) return !p.deterministic && rows >= bound;
  // With little work it would start later for it: the first item is drawn, too.
  return p.deterministic || (rows <= bound && num_items_fmha_bwd_ws<Kernel>(p) > 4 * num_multiprocessors());
}

template <class Kernel>
int launch_fmha_bwd_ws(const AttnParams& p, void* stream) {
  using Problem = typename Kernel::Problem;
  using T = typename Problem::Element;
  const int64_t items = num_items_fmha_bwd_ws<Kernel>(p);
  if (items == 0) return 0;
  const WorkOrder order = Problem::kOrdered
                              ? make_ordered_key_order(p, Problem::kPlannedRows, sizeof(T))
                              : make_key_order(p, Problem::kPlannedRows, sizeof(T), section_bytes(p), Problem::kParts);
  const auto blocks = static_cast<int32_t>(min_of<int64_t>(items, num_multiprocessors()));
  typename Kernel::Params params{p, {}, {}, {}, {}, order, Problem::kDrawsAll ? 0 : blocks};
  sm90::TensorMapEncoder encode(DTypeOf<T>::value);
  encode(&params.q, p.q, p.q_side, p.batch, p.head_dim_qk, p.num_heads_q, Problem::kBlockQ);
  encode(&params.k, p.k, p.kv_side, p.batch, p.head_dim_qk, p.num_heads_kv, Problem::kBlockKv);
  encode(&params.v, p.v, p.kv_side, p.batch, p.head_dim_v, p.num_heads_kv, Problem::kBlockKv);
  encode(&params.d_o, p.d_o, p.q_side, p.batch, p.head_dim_v, p.num_heads_q, Problem::kBlockQ);
  if (encode.error() != 0) return encode.error();
  return launch<Kernel>(params, Grid{blocks, 1}, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
