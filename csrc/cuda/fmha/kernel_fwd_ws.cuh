// Fused forward kernel for sm_90 (pipeline/sm90_fwd_ws.cuh): resident blocks walk over (query tile, head).
//   q [t_q, h, d_qk], k [t_kv, h_kv, d_qk], v [t_kv, h_kv, d_v] -> o [t_q, h, d_v], lse [t_q, h]
#pragma once

#include <new>

#include "arch/sm90/tensor_map.h"
#include "device/resident.cuh"
#include "fmha/pipeline/sm90_fwd_ws.cuh"

namespace portattn {

template <class ProblemType>
struct FmhaFwdWs {
  using Problem = ProblemType;
  using Params = sm90::FwdWsParams;
  using T = typename Problem::Element;
  using Consumer = sm90::FwdWsConsumer<Problem>;
  using Shared = sm90::FwdWsShared<Problem::kStages>;
  static constexpr int kThreads = Problem::kThreads;
  static constexpr int kMinBlocks = 1;
  static constexpr int32_t kPlannedRows = Problem::kBlockQ;
  static constexpr int kSmemBytes = Problem::kTileBytes + static_cast<int>(sizeof(Shared));

  PA_DEVICE void operator()(const Params& params, const BlockCtx& ctx) const {
    if constexpr (sm90::kIsSm90a) run(params, ctx);  // elsewhere an empty kernel, which nobody chooses
  }

 private:
  static PA_DEVICE void run(const Params& params, const BlockCtx& ctx) {
    Shared& shared = *reinterpret_cast<Shared*>(ctx.smem + Problem::kTileBytes);
    if (ctx.tid == 0) init_barriers(shared);
    block_sync();  // the barriers are there
    if (ctx.tid < 128) {
      sm90::give_registers<Problem::kProducerRegisters>();
      if (ctx.tid == 0) sm90::FwdWsProducer<Problem>(params, ctx.smem, shared).run(ctx.x, ctx.grid_x);
    } else {
      sm90::take_registers<Problem::kConsumerRegisters>();
      consume(params, shared, ctx, ctx.tid - 128);
    }
  }

  static PA_DEVICE void init_barriers(Shared& shared) {
    constexpr int kConsumerWarps = Problem::kConsumers * 4;
    shared.q_full.init(1);
    shared.q_empty.init(kConsumerWarps);
    for (int s = 0; s < Problem::kStages; ++s) {
      shared.k_full[s].init(1);
      shared.v_full[s].init(1);
      shared.k_empty[s].init(kConsumerWarps);
      shared.v_empty[s].init(kConsumerWarps);
    }
    sm90::fence_barrier_init();
  }

  static PA_DEVICE void consume(const Params& params, Shared& shared, const BlockCtx& ctx, int tid) {
    const AttnParams& p = params.attn;
    const int lane = tid % 32, warp_row = tid / 32 * 16;
    Consumer consumer(ctx.smem, shared, tid);
    consumer.open_turns();
    sm90::RingSlot<sm90::kTileSlots> slot;
    for (;; slot.advance()) {
      shared.q_full.wait(slot.count % 2);
      const sm90::FwdWsTile& tile = shared.tile(slot.index());
      if (!tile.exists) break;
      typename Problem::OutTile o;
      OnlineSoftmax<typename Problem::ScoreTile> softmax(Score<T, false>(p, 0, 0, 0).exp_scale());
      if (tile.blocks.begin < tile.blocks.end) {
        consumer.run(tile, softmax, o);
      } else {
        o.fill(0.f);
        consumer.release(shared.q_empty);
      }
      RowValues<typename Problem::ScoreTile> lse;
      const float sink = p.softmax_offset != nullptr ? p.softmax_offset[tile.item.head] : 0.f;
      softmax.finish(o, lse, p.has_sink, sink, 1.f);
      store_lse(p, tile, lse, warp_row, lane);
      store_out(p, tile, o, warp_row, lane);
    }
  }

  static PA_DEVICE void store_lse(const AttnParams& p, const sm90::FwdWsTile& tile,
                                  const RowValues<typename Problem::ScoreTile>& lse, int warp_row, int lane) {
    if (p.lse.data == nullptr || lane % 4 != 0) return;
    PA_UNROLL
    for (int s = 0; s < 2; ++s) {
      const int32_t r = warp_row + s * 8 + lane / 4;
      if (r >= tile.rows.total) continue;
      *row_pointer<float>(p.lse, tile.item.tile.seq, tile.q_rows, tile.rows.first + r, tile.item.head) =
          r < tile.rows.valid ? lse[s] : neg_inf<float>();
    }
  }

  // The four lanes of a quad hold pairs of columns of four 8-column blocks; they swap them, so that each writes 16
  // bytes of one block, and a warp whole sectors, without shared memory.
  static PA_DEVICE void store_out(const AttnParams& p, const sm90::FwdWsTile& tile, typename Problem::OutTile& o,
                                  int warp_row, int lane) {
    PA_UNROLL
    for (int s = 0; s < 2; ++s) {
      const int32_t r = warp_row + s * 8 + lane / 4;
      T* row = row_pointer<T>(p.o, tile.item.tile.seq, tile.q_rows, tile.rows.first + r, tile.item.head);
      PA_UNROLL
      for (int block = 0; block < Problem::kHeadDimV / 8; block += 4) {
        uint32_t x[4];
        PA_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int c = 2 * (block + i);
          x[i] = r < tile.rows.valid ? sm80::pack2<T>(o.at(s, c), o.at(s, c + 1)) : 0u;
        }
        transpose_quad(x, lane);
        const int col = (block + lane % 4) * 8;
        if (r < tile.rows.total && col < p.head_dim_v)
          *reinterpret_cast<uint4*>(row + col) = make_uint4(x[0], x[1], x[2], x[3]);
      }
    }
  }

  // x[i] of lane j of each quad <-> x[j] of lane i.
  static PA_DEVICE void transpose_quad(uint32_t (&x)[4], int lane) {
    PA_UNROLL
    for (int bit = 1; bit <= 2; bit *= 2) {
      const bool upper = lane & bit;
      PA_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (i & bit) continue;
        const uint32_t got = shuffle_xor(upper ? x[i] : x[i | bit], bit);
        if (upper) {
          x[i] = got;
        } else {
          x[i | bit] = got;
        }
      }
    }
  }
};

// Longest sequence of queries that the caller allows for.
inline int64_t longest_seqlen_q(const AttnParams& p) {
  return p.max_segment_seqlen_q > 0 ? p.max_segment_seqlen_q : p.q_side.seqlen;
}

// Blocks count past the last item, each once: half of 32 bits leaves them room.
constexpr int64_t kMostItems = INT32_MAX / 2;

template <class Kernel>
bool takes_fmha_fwd_ws(const AttnParams& p) {
  using Problem = typename Kernel::Problem;
  const int64_t items = num_tile_blocks(p.q_side, p.batch, Problem::kBlockQ) * p.num_heads_q;
  const int64_t least = p.window_right >= 0 ? Problem::kMinSeqlenCausal : Problem::kMinSeqlen;
  return !has_extras(p) && items <= kMostItems && longest_seqlen_q(p) >= least;
}

template <class Kernel>
int launch_fmha_fwd_ws(const AttnParams& p, void* stream) {
  using Problem = typename Kernel::Problem;
  using T = typename Problem::Element;
  const int64_t items = num_tile_blocks(p.q_side, p.batch, Problem::kBlockQ) * p.num_heads_q;
  if (items == 0) return 0;
  typename Kernel::Params params{p, {}, {}, {}, make_query_order(p, Problem::kBlockQ, sizeof(T))};
  sm90::TensorMapEncoder encode(DTypeOf<T>::value);
  encode(&params.q, p.q, p.q_side, p.batch, p.head_dim_qk, p.num_heads_q, Problem::kBlockQ);
  encode(&params.k, p.k, p.kv_side, p.batch, p.head_dim_qk, p.num_heads_kv, Problem::kBlockKv);
  encode(&params.v, p.v, p.kv_side, p.batch, p.head_dim_v, p.num_heads_kv, Problem::kBlockKv);
  if (encode.error() != 0) return encode.error();
  const int error = zero_async(p.next_item, sizeof(int32_t), stream);
  if (error != 0) return error;
  return launch<Kernel>(params, Grid{min_of<int64_t>(items, num_multiprocessors()), 1}, Kernel::kSmemBytes, stream);
}

}  // namespace portattn
