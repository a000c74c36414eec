// Epilogue of the forward of sm_90: o and lse of one tile to global memory.
#pragma once

#include "attn/score.cuh"
#include "attn/softmax.cuh"
#include "fmha/pipeline/sm90_fwd_feed.cuh"
#include "fmha/pipeline/sm90_staged_rows.cuh"
#include "fmha/pipeline/sm90_store_rows.cuh"

namespace portattn::sm90 {

template <class Problem>
class FwdWsEpilogue {
 public:
  using T = typename Problem::Element;
  using OutTile = typename Problem::OutTile;
  using LseRows = RowValues<typename Problem::ScoreTile>;
  using Softmax = OnlineSoftmax<typename Problem::ScoreTile>;

  // `tid` counts the threads of all consumers.
  PA_DEVICE FwdWsEpilogue(const AttnParams& p, int tid) : p_(p), tid_(tid) {}

  PA_DEVICE float exp_scale() const { return Score<T, false>(p_, 0, 0, 0).exp_scale(); }

  PA_DEVICE void store(const FwdWsTile& tile, Softmax& softmax, OutTile& o) const {
    const Share share = finish(tile, softmax, o);
    store_rows(share.out, p_.o.token_stride, o, 1.f, share.valid, share.total, p_.head_dim_v - first_col(tile),
               share.lane);
  }

  // The same by way of the tile's own queries in shared memory, which are not needed any more.
  PA_DEVICE void store(const FwdWsTile& tile, Softmax& softmax, OutTile& o, char* queries) const {
    const Share share = finish(tile, softmax, o);
    store_staged<T, Problem::kBlockQ * kSlabBytes>(share.out, p_.o.token_stride, o, share.valid, share.total,
                                                   p_.head_dim_v, queries + share.row * kSlabBytes, share.lane);
    fence_async_proxy();  // the next queries arrive where o was
    warp_sync();
  }

  // A tile whose queries see no key.
  PA_DEVICE void store_empty(const FwdWsTile& tile) const {
    OutTile o;
    o.fill(0.f);
    Softmax softmax(exp_scale());
    store(tile, softmax, o);
  }

 private:
  // The rows of this warp.
  struct Share {
    int lane, row;
    int valid, total;  // see TileRows
    T* out;
  };

  static PA_DEVICE int32_t first_col(const FwdWsTile& tile) { return Problem::kParts > 1 ? tile.first_col : 0; }

  PA_DEVICE Share finish(const FwdWsTile& tile, Softmax& softmax, OutTile& o) const {
    LseRows lse;
    const float sink = p_.softmax_offset != nullptr ? p_.softmax_offset[tile.item.head] : 0.f;
    softmax.finish(o, lse, p_.has_sink, sink, 1.f);
    const int tid = opaque(tid_), row = tid / 32 * 16;  // opaque, or this would be kept in registers all along
    const Share share{
        tid % 32, row, tile.rows.valid - row, tile.rows.total - row,
        row_pointer<T>(p_.o, tile.item.tile.seq, tile.q_rows, tile.rows.first + row, tile.item.head) + first_col(tile)};
    if (first_col(tile) == 0) store_lse(tile, share, lse);
    return share;
  }

  PA_DEVICE void store_lse(const FwdWsTile& tile, const Share& share, const LseRows& lse) const {
    if (p_.lse.data == nullptr || share.lane % 4 != 0) return;
    PA_UNROLL
    for (int s = 0; s < 2; ++s) {
      const int r = s * 8 + share.lane / 4;
      if (r >= share.total) continue;
      *row_pointer<float>(p_.lse, tile.item.tile.seq, tile.q_rows, tile.rows.first + share.row + r, tile.item.head) =
          r < share.valid ? lse[s] : neg_inf<float>();
    }
  }

  const AttnParams& p_;
  int tid_;
};

}  // namespace portattn::sm90
