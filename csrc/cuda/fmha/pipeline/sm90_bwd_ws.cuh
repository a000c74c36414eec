// Backward pipeline of sm_90, warp-specialised: some warps move data (sm90_bwd_feed.cuh), two consumer
// warpgroups of 64 keys each multiply with wgmma. A block keeps a tile of keys and walks over (query head, query tile):
//   s = k q^T;  p = exp2(s - lse);  dp = v do^T;  ds = p (dp - delta);  dv += p do;  dk += ds q;  dq += ds^T k
// Scores are computed transposed, so that p and ds go from accumulators into dv and dk without leaving registers; only
// dq, a sum over the keys of both warpgroups, needs ds in shared memory. After FlashAttention-3
// (https://arxiv.org/abs/2407.08608); docs/deep_dives/sm90_backward.md draws it.
#pragma once

#include "fmha/pipeline/sm90_bwd_steps.cuh"

namespace portattn::sm90 {

template <class Problem>
class BwdWsConsumer : public BwdSteps<Problem> {
 public:
  using Steps = BwdSteps<Problem>;
  using T = typename Steps::T;
  using ScoreTile = typename Steps::ScoreTile;
  using Operand = typename Steps::Operand;
  using DkTile = typename Problem::DkTile;
  using DvTile = typename Problem::DvTile;
  using DqTile = typename Problem::DqTile;
  using Steps::release;

  // `tid` counts the threads of all consumers.
  PA_DEVICE BwdWsConsumer(const AttnParams& p, char* smem, typename Steps::Shared& shared, int tid)
      : Steps(p, smem, shared, tid),
        group_(uniform(tid / 128)),
        exp_scale_(p.attn_scale * static_cast<float>(kLog2e)) {}

  // Accumulates dk (to be scaled) and dv of a tile that some query sees, and lets k and v go.
  PA_DEVICE void run(const BwdWsTile& tile, DkTile& dk, DvTile& dv) {
    if constexpr (Problem::kKeyBuffers > 1) key_buffer_ = uniform(RingSlot<Problem::kKeyBuffers>{tile.number}.index());
    clear_foreign_keys(tile, k_offset());
    Queries at(tile);
    in_slot([&](int slot) { wait_for_queries(slot, tile, at); });
    in_slot([&](int slot) { step<true>(slot, tile, at, dk, dv); });
    PA_NO_UNROLL
    while (at.left > 0) {
      in_slot([&](int slot) { step<false>(slot, tile, at, dk, dv); });
    }
    in_slot([&](int slot) { finish(1 - slot); });
  }

 private:
  using Steps::add_product;
  using Steps::at_;
  using Steps::clear_foreign_keys;
  using Steps::hand_ds_over;
  using Steps::lane;
  using Steps::mask;
  using Steps::p_;
  using Steps::shared_;
  using Steps::smem_;
  using Steps::tid_;
  using Steps::wait_for_ds;
  using Steps::warp;

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

  // A walk over query tiles (Problem::Walk) that has in registers all it needs: a load in a step would wait, and with
  // it the warp, for the products that were started before it.
  struct Queries {
    int32_t m, left, first, last, plain_begin, plain_end;
    PA_DEVICE explicit Queries(const BwdWsTile& tile)
        : left(tile.steps),
          first(Problem::Walk::first(tile)),
          last(Problem::Walk::last(tile)),
          plain_begin(tile.plain_begin),
          plain_end(tile.plain_end) {
      m = first;
    }
    PA_DEVICE bool is_plain() const { return m >= plain_begin && m < plain_end; }
    PA_DEVICE void advance() {
      m = Problem::Walk::next(m, first, last);
      --left;
    }
  };

  // As Steps::wait_for_queries(), but reads nothing for a plain tile, which is whole.
  PA_DEVICE void wait_for_queries(int slot, const BwdWsTile& tile, const Queries& at) const {
    shared_.full[slot].wait(at_.parity());
    if (!at.is_plain()) this->clear_foreign_queries(slot, tile, at.m);
  }

  // One query tile, and on to the next, which is waited for while products are in flight. dq of the tile before is
  // computed here, when the other consumer's ds has long arrived: nobody waits, and consumers may be half a step apart,
  // one in softmax, one in products. Fences, too, have products beside them.
  template <bool First>
  PA_DEVICE void step(int slot, const BwdWsTile& tile, Queries& at, DkTile& dk, DvTile& dv) {
    ScoreTile s, dp;
    Operand p, ds;
    DqTile dq;
    float2 lse_log2[Problem::kLseAhead];
    this->load_lse(slot, lse_log2);
    start_scores(slot, s);
    start_dp(slot, dp);
    wgmma_wait<1>();
    pin(s.data);
    if (!at.is_plain()) mask(tile, at.m, s);
    this->template make_probabilities<Problem::kLseAhead>(slot, s, exp_scale_, lse_log2);
    if constexpr (!First) {
      if (!Problem::kStagesLate) wait_for_staging(1 - slot);
      wait_for_ds(1 - slot);
    }
    wgmma_wait<0>();
    pin(dp.data);
    make_score_gradients(slot, s, dp);
    pack_operand<T>(s, p);
    if constexpr (!Problem::kDqFirst) add_product(dv, p, Problem::kOffsetDo + slot * Problem::kBytesDo);
    pack_operand<T>(dp, ds);
    write_ds(slot, ds);
    if constexpr (!First) {
      if (Problem::kStagesLate) wait_for_staging(1 - slot);
      start_dq(1 - slot, dq);
    }
    if constexpr (Problem::kDqFirst) {
      add_product(dv, p, Problem::kOffsetDo + slot * Problem::kBytesDo);
    } else {
      add_product(dk, ds, Problem::kOffsetQ + slot * Problem::kBytesQ);
    }
    hand_ds_over(slot);
    if constexpr (!First) {
      wgmma_wait<1>();
      stage_dq(1 - slot, dq);
    }
    if constexpr (Problem::kDqFirst) add_product(dk, ds, Problem::kOffsetQ + slot * Problem::kBytesQ);
    if constexpr (!First) hand_dq_over(1 - slot);
    at.advance();
    at_.advance();
    if (at.left > 0) {
      wait_for_queries(1 - slot, tile, at);
    } else {
      release(shared_.v_empty);
    }
    wgmma_wait<0>();
    pin(dk.data);
    pin(dv.data);
    warp_sync();  // all lanes have read lse and delta
    release(shared_.empty[slot]);
  }

  // dq of the last query tile, which lay in this slot.
  PA_DEVICE void finish(int slot) {
    DqTile dq;
    wait_for_ds(slot);
    wait_for_staging(slot);
    start_dq(slot, dq);
    wgmma_wait<0>();
    release(shared_.k_empty[key_buffer()]);
    stage_dq(slot, dq);
    hand_dq_over(slot);
  }

  // s = k q^T of the current slot, in flight.
  PA_DEVICE void start_scores(int slot, ScoreTile& s) const {
    this->template start_transposed<Problem::kHeadDimQk>(s, k_offset() + keys_offset(),
                                                         Problem::kOffsetQ + slot * Problem::kBytesQ);
  }
  // dp = v do^T of the current slot, in flight.
  PA_DEVICE void start_dp(int slot, ScoreTile& dp) const {
    this->template start_transposed<Problem::kHeadDimV>(dp, Problem::kOffsetV + keys_offset(),
                                                        Problem::kOffsetDo + slot * Problem::kBytesDo);
  }
  // Where k of the tile is.
  PA_DEVICE int key_buffer() const { return Problem::kKeyBuffers > 1 ? key_buffer_ : 0; }
  PA_DEVICE int k_offset() const { return key_buffer() * Problem::kBytesK; }
  // This warpgroup's rows of k and v.
  PA_DEVICE int keys_offset() const { return group_ * 64 * kSlabBytes; }

  // dq of the slot before that one has been read, to be added up. Asked long before dq is staged, since a wait that
  // follows products lasts as long as they do, unless Problem::kStagesLate.
  PA_DEVICE void wait_for_staging(int slot) const { shared_.dq_empty[group_].wait(slot ^ 1); }

  // This consumer's share of dq of the slot before.
  PA_DEVICE void start_dq(int slot, DqTile& dq) const {
    constexpr int kSlab = Problem::kBlockKv * kSlabBytes;
    const int row_slab = Problem::kSplitsRows ? group_ : 0, col_slab = Problem::kSplitsRows ? 0 : group_;
    Steps::start_dq(slot, dq, row_slab * kSlab, k_offset() + col_slab * Problem::kDqColumns / kBoxColumns * kSlab);
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
    for (int k = 0; k < Steps::kQuerySteps; ++k) {
      const int slab = k / 4, chunk = first_chunk ^ k % 4 * 2;
      store_matrices(out + slab * Problem::kBlockKv * kSlabBytes + chunk * 16, ds[k]);
    }
  }
  // This warp's share of dq to shared memory, in the order of the scratch.
  PA_DEVICE void stage_dq(int slot, DqTile& dq) {
    pin(dq.data);
    release(shared_.ds_empty[slot]);
    const float scale = p_.attn_scale;
    float4* staging = reinterpret_cast<float4*>(smem_ + Problem::kOffsetDq + warp() * Problem::kBytesDq) + lane();
    PA_UNROLL
    for (int n = 0; n < DqTile::kN / 8; ++n) {
      staging[n * 32] = make_float4(dq.at(0, 2 * n) * scale, dq.at(0, 2 * n + 1) * scale, dq.at(1, 2 * n) * scale,
                                    dq.at(1, 2 * n + 1) * scale);
    }
  }
  PA_DEVICE void hand_dq_over(int slot) {
    fence_async_proxy();
    warp_sync();  // all lanes have written
    release(shared_.dq_full[group_][slot % Problem::kAdders]);
  }

  int group_;           // of consumers
  int key_buffer_ = 0;  // of the tile
  float exp_scale_;
};

}  // namespace portattn::sm90
