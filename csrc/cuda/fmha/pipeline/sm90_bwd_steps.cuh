// What consumers of every sm_90 backward do with a step: wait for tiles, start products, mask, make probabilities, hand
// ds over. How they share a step and where dq goes is theirs (sm90_bwd_ws.cuh, sm90_bwd_wide.cuh).
#pragma once

#include "arch/sm90/wgmma.cuh"
#include "attn/score.cuh"
#include "fmha/pipeline/sm90_bwd_tile.cuh"
#include "fmha/pipeline/sm90_operands.cuh"

namespace portattn::sm90 {

template <class Problem>
class BwdSteps {
 public:
  using T = typename Problem::Element;
  using ScoreTile = typename Problem::ScoreTile;
  using Shared = BwdWsShared<Problem>;
  static constexpr int kQuerySteps = Problem::kBlockQ / 16;  // of p do and ds q
  static constexpr int kKeySteps = Problem::kBlockKv / 16;   // of ds^T k
  using Operand = uint32_t[kQuerySteps][4];

  // `tid` counts the threads of all consumers.
  PA_DEVICE BwdSteps(const AttnParams& p, char* smem, Shared& shared, int tid)
      : p_(p), smem_(smem), shared_(shared), tid_(tid) {}

  PA_DEVICE void release(Barrier& barrier) const {
    if (tid_ % 32 == 0) barrier.arrive();
  }

 protected:
  PA_DEVICE int warp() const { return tid_ / 32; }
  PA_DEVICE int lane() const { return tid_ % 32; }

  // The tiles of the slot have arrived, without rows of others.
  PA_DEVICE void wait_for_queries(int slot, const BwdWsTile& tile, int32_t m) const {
    shared_.full[slot].wait(at_.parity());
    clear_foreign_queries(slot, tile, m);
  }
  // Each consumer clears all of a tile: writing the same zeros takes less time than waiting for the other.
  PA_DEVICE void clear_foreign_queries(int slot, const BwdWsTile& tile, int32_t m) const {
    const int32_t valid = tile.q_rows.len - m * Problem::kBlockQ;
    if (valid >= Problem::kBlockQ) return;
    const int tid = tid_ % 128;
    clear_rows<Problem::kBlockQ, Problem::kHeadDimQk, 128, true>(smem_ + Problem::kOffsetQ + slot * Problem::kBytesQ,
                                                                 valid, tid);
    clear_rows<Problem::kBlockQ, Problem::kHeadDimV, 128, true>(smem_ + Problem::kOffsetDo + slot * Problem::kBytesDo,
                                                                valid, tid);
    PA_NO_UNROLL
    for (int row = valid + tid; row < Problem::kBlockQ; row += 128) {
      shared_.lse_log2[slot][row] = -neg_inf<float>();
      shared_.minus_delta[slot][row] = 0.f;
    }
    all_cleared();
  }

  PA_DEVICE void clear_foreign_keys(const BwdWsTile& tile, int k_offset) const {
    const int valid = tile.rows.valid, tid = tid_ % 128;
    if (valid >= Problem::kBlockKv) return;
    clear_rows<Problem::kBlockKv, Problem::kHeadDimQk, 128, true>(smem_ + k_offset, valid, tid);
    clear_rows<Problem::kBlockKv, Problem::kHeadDimV, 128, true>(smem_ + Problem::kOffsetV, valid, tid);
    all_cleared();
  }
  PA_DEVICE void all_cleared() const {
    fence_async_proxy();
    named_sync(1 + tid_ / 128, 128);
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

  // dq = ds^T k of the slot before, from these places on in ds and in k, in flight; all of ds has arrived.
  template <class Tile>
  PA_DEVICE void start_dq(int slot, Tile& dq, int ds_offset, int k_offset) const {
    constexpr int kSlab = Problem::kBlockKv * kSlabBytes;
    const uint64_t ds =
        descriptor_transposed(smem_address(smem_) + Problem::kOffsetDs + slot * Problem::kBytesDs + ds_offset, kSlab);
    const uint64_t k = descriptor_transposed(smem_address(smem_) + k_offset, kSlab);
    pin(dq.data);
    wgmma_fence();
    PA_UNROLL
    for (int step = 0; step < kKeySteps; ++step) {
      wgmma<1, 1>(dq.data, advance(ds, step * 16 * kSlabBytes), advance(k, step * 16 * kSlabBytes), step > 0, T{});
    }
    wgmma_commit();
  }

  using DsSlot = RingSlot<Problem::kDsBuffers>;
  PA_DEVICE DsSlot ds_slot() const { return DsSlot{at_.count}; }
  // ds of the step before, which lies in `slot`.
  PA_DEVICE void wait_for_ds(int slot) const { shared_.ds_full[slot].wait(ds_slot().previous().parity()); }

  static PA_DEVICE bool is_plain(const BwdWsTile& tile, int32_t m) {
    return m >= tile.plain_begin && m < tile.plain_end;
  }
  PA_DEVICE void mask(const BwdWsTile& tile, int32_t m, ScoreTile& s) const {
    // Opaque, so that nothing of this is prepared outside and kept in registers.
    const BwdWsTile& here = *opaque(&tile);
    const int tid = opaque(tid_);
    mask_transposed_tile<Problem::kTriangular>(s, tid % 32, here.visible, here.rows.first + Problem::key_warp(tid) * 16,
                                               m * Problem::kBlockQ);
  }

  // lse of this thread's first columns, two and two, before products that would hold the loads up: a multiprocessor
  // hands both to their units in order.
  template <int Pairs>
  PA_DEVICE void load_lse(int slot, float2 (&lse_log2)[Pairs]) const {
    PA_UNROLL
    for (int i = 0; i < Pairs; ++i) lse_log2[i] = load_pair(shared_.lse_log2[slot] + i * 8 + lane() % 4 * 2);
  }

  // Scores -> probabilities. The first Loaded pairs of lse are loaded.
  template <int Loaded = 0>
  PA_DEVICE void make_probabilities(int slot, ScoreTile& s, float exp_scale, const float2* loaded = nullptr) const {
    const float2* lse_log2 = reinterpret_cast<const float2*>(shared_.lse_log2[slot]) + lane() % 4;
    PA_UNROLL
    for (int c = 0; c < ScoreTile::kColSlots; c += 2) {
      const float2 x = c / 2 < Loaded ? loaded[c / 2] : lse_log2[c * 2];
      PA_UNROLL
      for (int r = 0; r < 2; ++r) {
        s.at(r, c) = fast_exp2(s.at(r, c) * exp_scale - x.x);
        s.at(r, c + 1) = fast_exp2(s.at(r, c + 1) * exp_scale - x.y);
      }
    }
  }

  PA_DEVICE void hand_ds_over(int slot) const {
    fence_async_proxy();
    warp_sync();  // all lanes have written
    release(shared_.ds_full[slot]);
  }

  const AttnParams& p_;
  char* smem_;
  Shared& shared_;
  int tid_;
  RingSlot<Problem::kStages> at_;
};

}  // namespace portattn::sm90
