// Backward pipeline of sm_90, warp-specialised: four warps move data (sm90_bwd_feed.cuh), two consumer warpgroups of 64
// keys each multiply with wgmma. A block keeps a tile of keys and walks over (query head, query tile):
//   s = k q^T;  p = exp2(s - lse);  dp = v do^T;  ds = p (dp - delta);  dv += p do;  dk += ds q;  dq += ds^T k
// Scores are computed transposed, so that p and ds go from accumulators into dv and dk without leaving registers; only
// dq, a sum over the keys of both warpgroups, needs ds in shared memory. After FlashAttention-3
// (https://arxiv.org/abs/2407.08608); docs/deep_dives/sm90_backward.md draws it.
#pragma once

#include "arch/sm90/wgmma.cuh"
#include "attn/score.cuh"
#include "fmha/pipeline/sm90_bwd_tile.cuh"
#include "fmha/pipeline/sm90_operands.cuh"

namespace portattn::sm90 {

template <class Problem>
class BwdWsConsumer {
 public:
  using T = typename Problem::Element;
  using ScoreTile = typename Problem::ScoreTile;
  using DkTile = typename Problem::DkTile;
  using DvTile = typename Problem::DvTile;
  using DqTile = typename Problem::DqTile;
  using Shared = BwdWsShared<Problem>;
  static constexpr int kThreads = 128 * Problem::kConsumers;
  static constexpr int kQuerySteps = Problem::kBlockQ / 16;  // of p do and ds q
  static constexpr int kKeySteps = Problem::kBlockKv / 16;   // of ds^T k
  using Operand = uint32_t[kQuerySteps][4];

  // `tid` counts the threads of all consumers.
  PA_DEVICE BwdWsConsumer(const AttnParams& p, char* smem, Shared& shared, int tid)
      : p_(p),
        smem_(smem),
        shared_(shared),
        tid_(tid),
        group_(uniform(tid / 128)),
        exp_scale_(p.attn_scale * static_cast<float>(kLog2e)) {}

  // Accumulates dk (to be scaled) and dv of a tile that some query sees.
  PA_DEVICE void run(const BwdWsTile& tile, DkTile& dk, DvTile& dv) {
    clear_foreign_keys(tile);
    typename Problem::Walk at(tile);
    in_slot([&](int slot) { step<true>(slot, tile, at, dk, dv); });
    PA_NO_UNROLL
    for (at.advance(tile); at.left > 0; at.advance(tile)) {
      in_slot([&](int slot) { step<false>(slot, tile, at, dk, dv); });
    }
    in_slot([&](int slot) { finish(1 - slot, tile); });
  }

  PA_DEVICE void release(Barrier& barrier) const {
    if (tid_ % 32 == 0) barrier.arrive();
  }

 private:
  // Calls f with the current slot, as a constant if the step is small enough to exist once for each: then descriptors
  // of what lies there are a uniform register and a constant, and take no arithmetic.
  template <class F>
  PA_DEVICE void in_slot(F f) {
    static_assert(Problem::kStages == 2, "f exists once for each slot");
    if (!Problem::kUnrollsSlots) {
      f(at_.index());
    } else if (at_.index() == 0) {
      f(0);
    } else {
      f(1);
    }
  }

  // One query tile. dq of the tile before is computed here, when the other consumer's ds has long arrived: nobody
  // waits, and consumers may be half a step apart, one in softmax, one in products. What must be fenced is fenced with
  // products in flight.
  template <bool First>
  PA_DEVICE void step(int slot, const BwdWsTile& tile, const typename Problem::Walk& at, DkTile& dk, DvTile& dv) {
    ScoreTile s, dp;
    Operand p, ds;
    DqTile dq;
    const bool full = sees_all(tile, at.m);
    wait_for_queries(slot, tile, at.m);
    start_scores(slot, s);
    start_dp(slot, dp);
    if (!First && Problem::kDqFirst && at.left + 1 < tile.steps) hand_dq_over();
    wgmma_wait<1>();
    pin(s.data);
    if (!full) mask(tile, at.m, s);
    make_probabilities(slot, s);
    wgmma_wait<0>();
    pin(dp.data);
    make_score_gradients(slot, s, dp);
    pack_operand<T>(s, p);
    if constexpr (!Problem::kDqFirst) add_product(dv, p, Problem::kOffsetDo + slot * Problem::kBytesDo);
    pack_operand<T>(dp, ds);
    write_ds(slot, ds);
    if constexpr (!First) start_dq(1 - slot, dq);
    if constexpr (Problem::kDqFirst) add_product(dv, p, Problem::kOffsetDo + slot * Problem::kBytesDo);
    add_product(dk, ds, Problem::kOffsetQ + slot * Problem::kBytesQ);
    hand_ds_over(slot);
    if constexpr (!First) {
      wgmma_wait<Problem::kDqFirst ? 2 : 1>();
      stage_dq(1 - slot, dq);
      if constexpr (!Problem::kDqFirst) hand_dq_over();
    }
    wgmma_wait<0>();
    pin(dk.data);
    pin(dv.data);
    warp_sync();  // all lanes have read lse and delta
    release(shared_.empty[slot]);
    at_.advance();
  }

  // dq of the last query tile, which lay in this slot.
  PA_DEVICE void finish(int slot, const BwdWsTile& tile) {
    DqTile dq;
    if (Problem::kDqFirst && tile.steps > 1) hand_dq_over();
    start_dq(slot, dq);
    wgmma_wait<0>();
    stage_dq(slot, dq);
    hand_dq_over();
  }

  PA_DEVICE int warp() const { return tid_ / 32; }
  PA_DEVICE int lane() const { return tid_ % 32; }

  // The tiles of the current slot have arrived, without rows of others.
  PA_DEVICE void wait_for_queries(int slot, const BwdWsTile& tile, int32_t m) const {
    shared_.full[slot].wait(at_.parity());
    const int32_t valid = tile.q_rows.len - m * Problem::kBlockQ;
    if (valid >= Problem::kBlockQ) return;
    clear_rows<Problem::kBlockQ, Problem::kHeadDimQk, kThreads>(smem_ + Problem::kOffsetQ + slot * Problem::kBytesQ,
                                                                valid, tid_);
    clear_rows<Problem::kBlockQ, Problem::kHeadDimV, kThreads>(smem_ + Problem::kOffsetDo + slot * Problem::kBytesDo,
                                                               valid, tid_);
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

  // s = k q^T of the current slot, in flight.
  PA_DEVICE void start_scores(int slot, ScoreTile& s) const {
    start_transposed<Problem::kHeadDimQk>(s, 0, Problem::kOffsetQ + slot * Problem::kBytesQ);
  }
  // dp = v do^T of the current slot, in flight.
  PA_DEVICE void start_dp(int slot, ScoreTile& dp) const {
    start_transposed<Problem::kHeadDimV>(dp, Problem::kOffsetV, Problem::kOffsetDo + slot * Problem::kBytesDo);
  }
  // acc = keys [this warpgroup's 64, HeadDim] . queries [kBlockQ, HeadDim]^T
  template <int HeadDim>
  PA_DEVICE void start_transposed(ScoreTile& acc, int keys_offset, int queries_offset) const {
    const uint64_t keys = descriptor(smem_address(smem_) + keys_offset + group_ * 64 * kSlabBytes);
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

  // dq = ds^T k of the slot before, this consumer's share, in flight; waits for the other's ds.
  PA_DEVICE void start_dq(int slot, DqTile& dq) const {
    constexpr int kSlab = Problem::kBlockKv * kSlabBytes;
    const int row_slab = Problem::kSplitsRows ? group_ : 0, col_slab = Problem::kSplitsRows ? 0 : group_;
    const uint64_t ds = descriptor_transposed(
        smem_address(smem_) + Problem::kOffsetDs + slot * Problem::kBytesDs + row_slab * kSlab, kSlab);
    const uint64_t k =
        descriptor_transposed(smem_address(smem_) + col_slab * Problem::kDqColumns / kBoxColumns * kSlab, kSlab);
    shared_.ds_full[slot].wait(at_.previous().parity());
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
    mask_transposed_tile(s, tid % 32, here.visible, here.rows.first + tid / 32 * 16, m * Problem::kBlockQ);
  }

  // Scores -> probabilities.
  PA_DEVICE void make_probabilities(int slot, ScoreTile& s) const {
    const float2* lse_log2 = reinterpret_cast<const float2*>(shared_.lse_log2[slot]) + lane() % 4;
    PA_UNROLL
    for (int c = 0; c < ScoreTile::kColSlots; c += 2) {
      const float2 x = lse_log2[c * 2];
      PA_UNROLL
      for (int r = 0; r < 2; ++r) {
        s.at(r, c) = fast_exp2(s.at(r, c) * exp_scale_ - x.x);
        s.at(r, c + 1) = fast_exp2(s.at(r, c + 1) * exp_scale_ - x.y);
      }
    }
  }

  // dp -> ds
  PA_DEVICE void make_score_gradients(int slot, const ScoreTile& p, ScoreTile& dp) const {
    const float2* minus_delta = reinterpret_cast<const float2*>(shared_.minus_delta[slot]) + lane() % 4;
    PA_UNROLL
    for (int c = 0; c < ScoreTile::kColSlots; c += 2) {
      const float2 x = minus_delta[c * 2];
      PA_UNROLL
      for (int r = 0; r < 2; ++r) {
        dp.at(r, c) = p.at(r, c) * (dp.at(r, c) + x.x);
        dp.at(r, c + 1) = p.at(r, c + 1) * (dp.at(r, c + 1) + x.y);
      }
    }
  }

  // ds [keys, queries] of this warp to shared memory, for the products of both consumers.
  PA_DEVICE void write_ds(int slot, const Operand& ds) const {
    const int tid = opaque(tid_);  // so that addresses are computed here, not kept in registers
    const int row = tid / 32 * 16 + tid % 16, first_chunk = tid % 32 / 16 ^ row % 8;
    const uint32_t out = smem_address(smem_) + Problem::kOffsetDs + slot * Problem::kBytesDs + row * kSlabBytes;
    shared_.ds_empty[slot].wait(at_.parity() ^ 1);
    PA_UNROLL
    for (int k = 0; k < kQuerySteps; ++k) {
      const int slab = k / 4, chunk = first_chunk ^ k % 4 * 2;
      store_matrices(out + slab * Problem::kBlockKv * kSlabBytes + chunk * 16, ds[k]);
    }
  }
  PA_DEVICE void hand_ds_over(int slot) const {
    fence_async_proxy();
    warp_sync();  // all lanes have written
    release(shared_.ds_full[slot]);
  }

  // This warp's share of dq to shared memory, in the order of the scratch.
  PA_DEVICE void stage_dq(int slot, DqTile& dq) {
    pin(dq.data);
    release(shared_.ds_empty[slot]);
    const float scale = p_.attn_scale;
    float4* staging = reinterpret_cast<float4*>(smem_ + Problem::kOffsetDq + warp() * Problem::kBytesDq) + lane();
    shared_.dq_empty[group_].wait(slot ^ 1);  // dq of slot 0 and of slot 1 alternate
    PA_UNROLL
    for (int n = 0; n < DqTile::kN / 8; ++n) {
      staging[n * 32] = make_float4(dq.at(0, 2 * n) * scale, dq.at(0, 2 * n + 1) * scale, dq.at(1, 2 * n) * scale,
                                    dq.at(1, 2 * n + 1) * scale);
    }
  }
  PA_DEVICE void hand_dq_over() {
    fence_async_proxy();
    warp_sync();  // all lanes have written
    release(shared_.dq_full[group_]);
  }

  const AttnParams& p_;
  char* smem_;
  Shared& shared_;
  int tid_;
  int group_;  // of consumers
  float exp_scale_;
  RingSlot<Problem::kStages> at_;
};

}  // namespace portattn::sm90
