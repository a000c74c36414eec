// Forward epilogue: o and lse of one query tile to global memory, zeros (and -inf) in the padding rows of its slot.
#pragma once

#include "attn/seqlen_info.cuh"
#include "attn/work_tile.cuh"
#include "fmha/problem.cuh"

namespace portattn {

template <class Problem>
struct FwdEpilogue {
  using T = typename Problem::Element;
  using ScoreTile = typename Problem::ScoreTile;

  // `o` is normalised; shared memory at `smem` is free.
  static PA_DEVICE void store(const AttnParams& p, const TileRows& tile, const SeqRows& rows, int32_t seq, int32_t head,
                              const typename Problem::OutTile& o, const RowValues<ScoreTile>& lse, char* smem,
                              int tid) {
    const int lane = tid % Arch::kWarpSize, warp_row = tid / Arch::kWarpSize * Problem::kWarpRows;
    typename Problem::SmemO staging(smem);
    store_acc(staging, o, warp_row, 0, lane);
    store_lse(p, tile, rows, seq, head, lse, warp_row, lane);
    block_sync();  // all of o is staged
    store_tile<Problem::kThreads>(row_pointer<T>(p.o, seq, rows, tile.first, head), p.o.token_stride, staging,
                                  tile.valid, tile.total, p.head_dim_v, tid);
  }

  // A tile without a single query: zeros and -inf.
  static PA_DEVICE void store_padding(const AttnParams& p, const TileRows& tile, const SeqRows& rows, int32_t seq,
                                      int32_t head, char* smem, int tid) {
    store_tile<Problem::kThreads>(row_pointer<T>(p.o, seq, rows, tile.first, head), p.o.token_stride,
                                  typename Problem::SmemO(smem), 0, tile.total, p.head_dim_v, tid);
    if (p.lse.data == nullptr) return;
    for (int32_t r = tid; r < tile.total; r += Problem::kThreads) {
      *row_pointer<float>(p.lse, seq, rows, tile.first + r, head) = neg_inf<float>();
    }
  }

 private:
  static PA_DEVICE void store_lse(const AttnParams& p, const TileRows& tile, const SeqRows& rows, int32_t seq,
                                  int32_t head, const RowValues<ScoreTile>& lse, int warp_row, int lane) {
    if (p.lse.data == nullptr || ScoreTile::Layout::col(lane, 0) != 0) return;  // one lane of a row writes
    PA_UNROLL
    for (int s = 0; s < ScoreTile::kRowSlots; ++s) {
      const int32_t r = warp_row + ScoreTile::Layout::row(lane, s);
      if (r >= tile.total) continue;
      *row_pointer<float>(p.lse, seq, rows, tile.first + r, head) =
          r < tile.valid ? static_cast<float>(lse[s]) : neg_inf<float>();
    }
  }
};

}  // namespace portattn
