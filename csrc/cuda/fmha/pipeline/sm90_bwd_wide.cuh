// What the consumers of the sm_90 backward for wide heads do, whichever way they share a step
// (sm90_bwd_by_product.cuh, sm90_bwd_by_keys.cuh), beside what all do (sm90_bwd_steps.cuh): make ds from rounded p,
// write it to shared memory and add dq up in global memory.
#pragma once

#include "fmha/pipeline/sm90_bwd_steps.cuh"
#include "fmha/pipeline/sm90_bwd_wide_tile.cuh"
#include "fmha/pipeline/sm90_store_rows.cuh"

namespace portattn::sm90 {

template <class Problem>
class BwdWideSteps : public BwdSteps<Problem> {
 public:
  using Steps = BwdSteps<Problem>;
  using T = typename Steps::T;
  using ScoreTile = typename Steps::ScoreTile;
  using Operand = typename Steps::Operand;
  using Steps::Steps;

 protected:
  using Steps::at_;
  using Steps::ds_slot;
  using Steps::lane;
  using Steps::p_;
  using Steps::shared_;
  using Steps::smem_;
  using Steps::tid_;

  PA_DEVICE int q_offset() const { return Problem::kOffsetQ + at_.index() * Problem::kBytesQ; }
  PA_DEVICE int do_offset() const { return Problem::kOffsetDo + at_.index() * Problem::kBytesDo; }

  PA_DEVICE void wait_for_queries(const BwdWsTile& tile, int32_t m) const {
    Steps::wait_for_queries(at_.index(), tile, m);
  }
  // dq of the slot before, columns from `column` on.
  template <class Tile>
  PA_DEVICE void start_dq(Tile& dq, int column) const {
    constexpr int kSlab = Problem::kBlockKv * kSlabBytes;
    const int slot = ds_slot().previous().index();
    this->wait_for_ds(slot);
    Steps::start_dq(slot, dq, 0, column / kBoxColumns * kSlab + column % kBoxColumns * 2);
  }
  PA_DEVICE void to_probabilities(ScoreTile& s) const {
    this->make_probabilities(at_.index(), s, p_.attn_scale * static_cast<float>(kLog2e));
  }
  PA_DEVICE void hand_ds_over() const { Steps::hand_ds_over(ds_slot().index()); }

  // dp -> ds, from probabilities rounded as dv takes them: in fp32 they would need registers that accumulators have.
  PA_DEVICE void to_score_gradients(const Operand& p, ScoreTile& dp) const {
    const float2* minus_delta = reinterpret_cast<const float2*>(shared_.minus_delta[at_.index()]) + lane() % 4;
    PA_UNROLL
    for (int c = 0; c < ScoreTile::kColSlots; c += 2) {
      const float2 x = minus_delta[c * 2];
      PA_UNROLL
      for (int r = 0; r < 2; ++r) {
        const float2 probability = sm80::unpack2<T>(p[c / 4][c % 4 + r]);
        dp.at(r, c) = probability.x * (dp.at(r, c) + x.x);
        dp.at(r, c + 1) = probability.y * (dp.at(r, c + 1) + x.y);
      }
    }
  }

  // ds [keys, queries], of the current slot: the 16 keys of a warp are 2 KiB.
  PA_DEVICE char* ds_of_warp() const {
    return smem_ + Problem::kOffsetDs + ds_slot().index() * Problem::kBytesDs +
           Problem::key_warp(tid_) * 16 * kSlabBytes;
  }
  PA_DEVICE void write_ds(const Operand& ds) const {
    const int row = lane() % 16;
    const uint32_t out = smem_address(ds_of_warp()) + row * kSlabBytes;
    PA_UNROLL
    for (int k = 0; k < Steps::kQuerySteps; ++k) store_matrices(out + ((k * 2 + lane() / 16) ^ row % 8) * 16, ds[k]);
  }
  // This warp's rows of dq of the step before `at`, columns from `column` on, to the scratch.
  template <class Tile>
  PA_DEVICE void add_dq(const BwdWsTile& tile, const BwdWsWalk& at, Tile& dq, int column) const {
    pin(dq.data);
    const BwdWsTile& here = *opaque(&tile);
    const int tid = opaque(tid_);
    const bool wraps = at.m == here.m_begin;
    const int32_t first = tid / 32 % 4 * DqScratch::kRows;
    const int32_t row = (wraps ? here.m_end - 1 : at.m - 1) * Problem::kBlockQ + first;
    if (first >= Problem::kBlockQ || row >= here.q_rows.len) return;
    float* out = dq_scratch(p_, here.item.tile.seq, here.q_rows, at.head - wraps) +
                 row / DqScratch::kRows * dq_scratch_step(p_) + column * DqScratch::kRows + tid % 32 * 4;
    const float scale = p_.attn_scale;
    PA_UNROLL
    for (int n = 0; n < Tile::kN / 8; ++n) {
      const float x[4] = {dq.at(0, 2 * n) * scale, dq.at(0, 2 * n + 1) * scale, dq.at(1, 2 * n) * scale,
                          dq.at(1, 2 * n + 1) * scale};
      if (column + n * 8 < p_.head_dim_qk) sm80::atomic_add4(out + n * 8 * DqScratch::kRows, x);
    }
  }

  // dk or dv of this warp's keys, of `cols` columns; of the tile's part.
  template <class Tile>
  PA_DEVICE void store_gradient(const TensorView& out, const BwdWsTile& tile, const Tile& gradient, float scale,
                                int32_t cols) const {
    const BwdWsTile& here = *opaque(&tile);
    const int tid = opaque(tid_), first = Problem::key_warp(tid) * 16;
    const int32_t first_col = Problem::kParts > 1 ? here.part * Tile::kN : 0;
    T* rows =
        row_pointer<T>(out, here.item.tile.seq, here.kv_rows, here.rows.first + first, here.item.head) + first_col;
    store_rows(rows, out.token_stride, gradient, scale, here.rows.valid - first, here.rows.total - first,
               cols - first_col, tid % 32);
  }
};

}  // namespace portattn::sm90
