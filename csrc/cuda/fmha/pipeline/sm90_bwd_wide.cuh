// What the consumers of the sm_90 backward for wide heads do, whichever way they share a step
// (sm90_bwd_by_product.cuh, sm90_bwd_by_keys.cuh): wait for tiles, start products, go from scores to their gradients,
// write ds to shared memory and add dq up in global memory.
#pragma once

#include "arch/sm90/wgmma.cuh"
#include "attn/score.cuh"
#include "fmha/pipeline/sm90_bwd_wide_tile.cuh"
#include "fmha/pipeline/sm90_operands.cuh"
#include "fmha/pipeline/sm90_store_rows.cuh"

namespace portattn::sm90 {

template <class Problem>
class BwdWideSteps {
 public:
  using T = typename Problem::Element;
  using ScoreTile = typename Problem::ScoreTile;
  using Shared = BwdWsShared<Problem>;
  static constexpr int kThreads = 128 * Problem::kConsumers;
  static constexpr int kQuerySteps = Problem::kBlockQ / 16;  // of p do and ds q
  static constexpr int kKeySteps = Problem::kBlockKv / 16;   // of ds^T k
  using Operand = uint32_t[kQuerySteps][4];

  // `tid` counts the threads of all consumers.
  PA_DEVICE BwdWideSteps(const AttnParams& p, char* smem, Shared& shared, int tid)
      : p_(p), smem_(smem), shared_(shared), tid_(tid) {}

  PA_DEVICE void release(Barrier& barrier) const {
    if (tid_ % 32 == 0) barrier.arrive();
  }

 protected:
  PA_DEVICE int lane() const { return tid_ % 32; }
  // Among the warps that together have all keys of the tile.
  static PA_DEVICE int key_warp(int tid) { return tid / 32 % (Problem::kBlockKv / 16); }

  PA_DEVICE int q_offset() const { return Problem::kOffsetQ + at_.index() * Problem::kBytesQ; }
  PA_DEVICE int do_offset() const { return Problem::kOffsetDo + at_.index() * Problem::kBytesDo; }

  // The tiles of the current slot have arrived, without rows of others.
  PA_DEVICE void wait_for_queries(const BwdWsTile& tile, int32_t m) const {
    shared_.full[at_.index()].wait(at_.parity());
    const int32_t valid = tile.q_rows.len - m * Problem::kBlockQ;
    if (valid >= Problem::kBlockQ) return;
    clear_rows<Problem::kBlockQ, Problem::kHeadDimQk, kThreads>(smem_ + q_offset(), valid, tid_);
    clear_rows<Problem::kBlockQ, Problem::kHeadDimV, kThreads>(smem_ + do_offset(), valid, tid_);
    all_cleared();
  }
  PA_DEVICE void clear_foreign_keys(const BwdWsTile& tile) const {
    if (tile.rows.valid >= Problem::kBlockKv) return;
    clear_rows<Problem::kBlockKv, Problem::kHeadDimQk, kThreads>(smem_, tile.rows.valid, tid_);
    clear_rows<Problem::kBlockKv, Problem::kHeadDimV, kThreads>(smem_ + Problem::kOffsetV, tile.rows.valid, tid_);
    all_cleared();
  }
  static PA_DEVICE void all_cleared() {
    fence_async_proxy();
    named_sync(1, kThreads);
  }

  // acc = keys [64, HeadDim] . queries [kBlockQ, HeadDim]^T, in flight.
  template <int HeadDim>
  PA_DEVICE void start_transposed(ScoreTile& acc, int keys_offset, int queries_offset) const {
    const uint64_t keys = descriptor(smem_address(smem_) + keys_offset);
    const uint64_t queries = descriptor(smem_address(smem_) + queries_offset);
    pin(acc.data);
    wgmma_fence();
    PA_UNROLL
    for (int step = 0; step < HeadDim / 16; ++step) {
      const int slab = step / 4, in_slab = step % 4 * 32;
      wgmma<0>(acc.data, advance(keys, slab * Problem::kBlockKv * kSlabBytes + in_slab),
               advance(queries, slab * Problem::kBlockQ * kSlabBytes + in_slab), step > 0, T{});
    }
    wgmma_commit();
  }

  // acc += operand [64 keys, kBlockQ] . queries [kBlockQ, columns], in flight.
  template <class Tile>
  PA_DEVICE void add_product(Tile& acc, const Operand& operand, int queries_offset) const {
    const uint64_t queries = descriptor_transposed(smem_address(smem_) + queries_offset, Problem::kBlockQ * kSlabBytes);
    pin(acc.data);
    wgmma_fence();
    PA_UNROLL
    for (int step = 0; step < kQuerySteps; ++step) {
      wgmma<1>(acc.data, operand[step], advance(queries, step * 16 * kSlabBytes), 1, T{});
    }
    wgmma_commit();
  }

  // dq = ds^T k of the slot before, columns from `column` on, in flight; waits for all of ds.
  template <class Tile>
  PA_DEVICE void start_dq(Tile& dq, int column) const {
    const RingSlot<Problem::kStages> slot = at_.previous();
    constexpr int kSlab = Problem::kBlockKv * kSlabBytes;
    const int keys_offset = column / kBoxColumns * kSlab + column % kBoxColumns * 2;
    const uint64_t ds =
        descriptor_transposed(smem_address(smem_) + Problem::kOffsetDs + slot.index() * Problem::kBytesDs, kSlab);
    const uint64_t k = descriptor_transposed(smem_address(smem_) + keys_offset, kSlab);
    shared_.ds_full[slot.index()].wait(slot.parity());
    pin(dq.data);
    wgmma_fence();
    PA_UNROLL
    for (int step = 0; step < kKeySteps; ++step) {
      wgmma<1, 1>(dq.data, advance(ds, step * 16 * kSlabBytes), advance(k, step * 16 * kSlabBytes), step > 0, T{});
    }
    wgmma_commit();
  }

  static PA_DEVICE bool sees_all(const BwdWsTile& tile, int32_t m) {
    const int32_t first = m * Problem::kBlockQ;
    return first >= tile.full_rows_begin && first + Problem::kBlockQ <= tile.full_rows_end;
  }
  PA_DEVICE void mask(const BwdWsTile& tile, int32_t m, ScoreTile& s) const {
    // Opaque, so that nothing of this is prepared outside and kept in registers.
    const BwdWsTile& here = *opaque(&tile);
    const int tid = opaque(tid_);
    mask_transposed_tile(s, tid % 32, here.visible, here.rows.first + key_warp(tid) * 16, m * Problem::kBlockQ);
  }

  // Scores -> probabilities.
  PA_DEVICE void to_probabilities(ScoreTile& s) const {
    const float2* lse_log2 = reinterpret_cast<const float2*>(shared_.lse_log2[at_.index()]) + lane() % 4;
    const float exp_scale = p_.attn_scale * static_cast<float>(kLog2e);
    PA_UNROLL
    for (int c = 0; c < ScoreTile::kColSlots; c += 2) {
      const float2 x = lse_log2[c * 2];
      PA_UNROLL
      for (int r = 0; r < 2; ++r) {
        s.at(r, c) = fast_exp2(s.at(r, c) * exp_scale - x.x);
        s.at(r, c + 1) = fast_exp2(s.at(r, c + 1) * exp_scale - x.y);
      }
    }
  }

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
    return smem_ + Problem::kOffsetDs + at_.index() * Problem::kBytesDs + key_warp(tid_) * 16 * kSlabBytes;
  }
  PA_DEVICE void write_ds(const Operand& ds) const {
    const int row = lane() % 16;
    const uint32_t out = smem_address(ds_of_warp()) + row * kSlabBytes;
    PA_UNROLL
    for (int k = 0; k < kQuerySteps; ++k) store_matrices(out + ((k * 2 + lane() / 16) ^ row % 8) * 16, ds[k]);
  }
  PA_DEVICE void hand_ds_over() const {
    fence_async_proxy();
    warp_sync();  // all lanes have written
    release(shared_.ds_full[at_.index()]);
  }

  // This warp's rows of dq of the step before `at`, columns from `column` on, to the scratch.
  template <class Tile>
  PA_DEVICE void add_dq(const BwdWsTile& tile, const BwdWsWalk& at, Tile& dq, int column) const {
    pin(dq.data);
    const BwdWsTile& here = *opaque(&tile);
    const int tid = opaque(tid_);
    const bool wraps = at.m == here.m_begin;
    const int32_t row = (wraps ? here.m_end - 1 : at.m - 1) * Problem::kBlockQ + tid / 32 % 4 * DqScratch::kRows;
    if (row >= here.q_rows.len) return;
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

  // dk or dv of this warp's keys.
  template <class Tile>
  PA_DEVICE void store_gradient(const TensorView& out, const BwdWsTile& tile, const Tile& gradient, float scale,
                                int32_t cols) const {
    const BwdWsTile& here = *opaque(&tile);
    const int tid = opaque(tid_), first = key_warp(tid) * 16;
    T* rows = row_pointer<T>(out, here.item.tile.seq, here.kv_rows, here.rows.first + first, here.item.head);
    store_rows(rows, out.token_stride, gradient, scale, here.rows.valid - first, here.rows.total - first, cols,
               tid % 32);
  }

  const AttnParams& p_;
  char* smem_;
  Shared& shared_;
  int tid_;
  RingSlot<Problem::kStages> at_;
};

}  // namespace portattn::sm90
