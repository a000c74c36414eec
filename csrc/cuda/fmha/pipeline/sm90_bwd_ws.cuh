// Backward pipeline of sm_90, warp-specialised: some warps move data (sm90_bwd_feed.cuh), two consumer
// warpgroups of 64 keys each multiply with wgmma. A block keeps a tile of keys and walks over (query head, query tile):
//   s = k q^T;  p = exp2(s - lse);  dp = v do^T;  ds = p (dp - delta);  dv += p do;  dk += ds q;  dq += ds^T k
// Scores are computed transposed, so that p and ds go from accumulators into dv and dk without leaving registers; only
// dq, a sum over the keys of both warpgroups, needs ds in shared memory. After FlashAttention-3
// (https://arxiv.org/abs/2407.08608); docs/deep_dives/sm90_backward.md draws it.
#pragma once

#include "arch/sm90/cached.cuh"
#include "fmha/pipeline/sm90_bwd_queries.cuh"
#include "fmha/pipeline/sm90_bwd_steps.cuh"
#include "fmha/pipeline/sm90_store_rows.cuh"

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
      : Steps(p, smem, shared, tid), group_(uniform(tid / 128)), exp_scale_(p.attn_scale * static_cast<float>(kLog2e)) {
    if constexpr (Problem::kTransposesDq) prepare_transpose();
  }

  // Accumulates dk (to be scaled) and dv of a tile that some query sees, and lets k and v go.
  PA_DEVICE void run(const BwdWsTile& tile, DkTile& dk, DvTile& dv) {
    if constexpr (Problem::kKeyBuffers > 1) key_buffer_ = uniform(RingSlot<Problem::kKeyBuffers>{tile.number}.index());
    if constexpr (Problem::kOneBlock) completes_dq_ = uniform(tile.item.tile.block) == 0;
    clear_foreign_keys(tile, k_offset());
    Queries at(tile);
    in_slot([&](int slot) { wait_for_queries(slot, tile, at); });
    in_slot([&](int slot) { step<true>(slot, tile, at, dk, dv); });
    PA_NO_UNROLL
    while (at.left > 0) {
      in_slot([&](int slot) { step<false>(slot, tile, at, dk, dv); });
    }
    in_slot([&](int slot) { finish(1 - slot, tile, at); });
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

  // What this thread has left in the scratch of a tile of queries, and where the tile's dq goes.
  struct DqSoFar {
    T* to;      // this warp's first row
    int valid;  // rows from there on
    int cols;   // of dq, from this consumer's first one on
    float4 sum[DqTile::kN / 8];
  };

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

  using Queries = std::conditional_t<Problem::kTriangular, BwdTriangularQueries<Problem>, BwdAnyQueries<Problem>>;

  // As Steps::wait_for_queries(), but reads nothing for a tile that is known to be whole.
  PA_DEVICE void wait_for_queries(int slot, const BwdWsTile& tile, const Queries& at) const {
    shared_.full[slot].wait(at_.parity());
    if (!at.is_whole()) this->clear_foreign_queries(slot, tile, at.m(tile));
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
    if (!at.is_plain()) mask(tile, at.m(tile), s);
    this->template make_probabilities<Problem::kLseAhead>(slot, s, exp_scale_, lse_log2);
    if constexpr (!First) {
      if (!Problem::kStagesLate) wait_for_staging(1 - slot);
      wait_for_ds(1 - slot);
    }
    if (Problem::kAsksForDsEarly) wait_for_ds_room(slot);
    wgmma_wait<0>();
    pin(dp.data);
    if constexpr (Problem::kOneBlock) {
      if (at.left == 1) release(shared_.v_empty);  // at once: the next tile may come soon
    }
    if constexpr (Problem::kTransposesDq) {
      make_operands(slot, s, dp, p, ds);
    } else {
      make_score_gradients(slot, s, dp);
      pack_operand<T>(s, p);
      if constexpr (!Problem::kDqFirst) add_product(dv, p, Problem::kOffsetDo + slot * Problem::kBytesDo);
      pack_operand<T>(dp, ds);
    }
    if (!Problem::kAsksForDsEarly) wait_for_ds_room(slot);
    write_ds(slot, ds);
    DqSoFar so_far;
    if constexpr (!First) {
      if (Problem::kStagesLate) wait_for_staging(1 - slot);
      if constexpr (Problem::kOneBlock) load_dq_so_far(tile, at, so_far);
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
      leave_dq(1 - slot, dq, so_far);
    }
    if constexpr (Problem::kDqFirst) add_product(dk, ds, Problem::kOffsetQ + slot * Problem::kBytesQ);
    if constexpr (!First) hand_dq_over(1 - slot);
    at.advance(tile);
    at_.advance();
    if (at.left > 0) {
      wait_for_queries(1 - slot, tile, at);
    } else if constexpr (!Problem::kOneBlock) {
      release(shared_.v_empty);
    }
    wgmma_wait<0>();
    pin(dk.data);
    pin(dv.data);
    warp_sync();  // all lanes have read lse and delta
    release(shared_.empty[slot]);
  }

  // dq of the last query tile, which lay in this slot.
  PA_DEVICE void finish(int slot, const BwdWsTile& tile, const Queries& at) {
    DqTile dq;
    DqSoFar so_far;
    wait_for_ds(slot);
    wait_for_staging(slot);
    if constexpr (Problem::kOneBlock) load_dq_so_far(tile, at, so_far);
    start_dq(slot, dq);
    wgmma_wait<0>();
    release(shared_.k_empty[key_buffer()]);
    leave_dq(slot, dq, so_far);
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

  // ds of the slot before the last has been read, so that ds can be written there.
  PA_DEVICE void wait_for_ds_room(int slot) const { shared_.ds_empty[slot].wait(at_.parity() ^ 1); }

  // This consumer's share of dq of the slot before.
  PA_DEVICE void start_dq(int slot, DqTile& dq) const {
    constexpr int kSlab = Problem::kBlockKv * kSlabBytes;
    const int row_slab = Problem::kSplitsRows ? group_ : 0, col_slab = Problem::kSplitsRows ? 0 : group_;
    const int k = k_offset() + col_slab * Problem::kDqColumns / kBoxColumns * kSlab;
    if constexpr (Problem::kTransposesDq) {
      start_dq_transposed(slot, dq, k);
    } else {
      Steps::start_dq(slot, dq, row_slab * kSlab, k);
    }
  }
  // dq^T = k^T ds, of the 64 dims from that place on in k.
  PA_DEVICE void start_dq_transposed(int slot, DqTile& dq, int k_offset) const {
    const uint64_t k = descriptor_transposed(smem_address(smem_) + k_offset, Problem::kBlockKv * kSlabBytes);
    const uint64_t ds = descriptor(smem_address(smem_) + Problem::kOffsetDs + slot * Problem::kBytesDs);
    pin(dq.data);
    wgmma_fence();
    PA_UNROLL
    for (int step = 0; step < Steps::kKeySteps; ++step) {
      const int slab = step / 4, in_slab = step % 4 * 32;
      wgmma<0, 1>(dq.data, advance(k, step * 16 * kSlabBytes),
                  advance(ds, slab * Problem::kBlockQ * kSlabBytes + in_slab), step > 0, T{});
    }
    wgmma_commit();
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

  // p and dp -> operands p and ds, 16 queries at a time, so that both fit where the scores were. ds depends on p by
  // a zero that ptxas does not know to be one: else it packs p where dv needs it, behind dq, and has no registers for
  // both forms of it until then.
  PA_DEVICE void make_operands(int slot, const ScoreTile& s, const ScoreTile& dp, Operand& p, Operand& ds) const {
    PA_UNROLL
    for (int k = 0; k < Steps::kQuerySteps; ++k) {
      float2 minus_delta[2];
      PA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int r = i % 2, c = 4 * k + i / 2 * 2;
        if (r == 0) minus_delta[i / 2] = load_pair(shared_.minus_delta[slot] + c * 4 + lane() % 4 * 2);
        const float2 x = minus_delta[i / 2];
        p[k][i] = sm80::pack2<T>(s.at(r, c), s.at(r, c + 1));
        ds[k][i] = sm80::pack2<T>(s.at(r, c) * (dp.at(r, c) + x.x), s.at(r, c + 1) * (dp.at(r, c + 1) + x.y)) |
                   (p[k][i] & zero_);
      }
    }
  }

  // ds of this warp to shared memory, for the products of both consumers: [keys, queries], or for the transpose of dq
  // [queries, keys].
  PA_DEVICE void write_ds(int slot, const Operand& ds) const {
    if constexpr (Problem::kTransposesDq) {
      const uint32_t out = ds_place_ + slot * Problem::kBytesDs;
      PA_UNROLL
      for (int k = 0; k < Steps::kQuerySteps; ++k) store_matrices_transposed(out + k * 16 * kSlabBytes, ds[k]);
    } else {
      const int tid = opaque(tid_);  // so that addresses are computed here, not kept in registers
      const int row = tid / 32 * 16 + tid % 16, first_chunk = tid % 32 / 16 ^ row % 8;
      const uint32_t out = smem_address(smem_) + Problem::kOffsetDs + slot * Problem::kBytesDs + row * kSlabBytes;
      PA_UNROLL
      for (int k = 0; k < Steps::kQuerySteps; ++k) {
        const int slab = k / 4, chunk = first_chunk ^ k % 4 * 2;
        store_matrices(out + slab * Problem::kBlockKv * kSlabBytes + chunk * 16, ds[k]);
      }
    }
  }
  // Of slot 0: a consumer has a slab of its 64 keys, a warp two chunks of it.
  PA_DEVICE void prepare_transpose() {
    const int tid = tid_ % 128, row = tid % 8 + tid % 32 / 16 * 8, chunk = (tid / 32 * 2 + tid / 8 % 2) ^ row % 8;
    ds_place_ = opaque(smem_address(smem_) + Problem::kOffsetDs + (tid_ / 128 * Problem::kBlockQ + row) * kSlabBytes +
                       chunk * 16);
    zero_ = static_cast<uint32_t>(p_.batch) >> 31;
  }

  // dq of the slot before, from which ds has been read: to the scratch, or where it is complete to dq.
  PA_DEVICE void leave_dq(int slot, DqTile& dq, const DqSoFar& so_far) const {
    pin(dq.data);
    release(shared_.ds_empty[slot]);
    if constexpr (Problem::kOneBlock) {
      if (completes_dq_) return write_dq(dq, so_far);
    }
    stage_dq(dq);
  }

  // For the step before, if it completes dq. The warp that adds has said that all of it is there
  // (BwdWsDqAdder::add): staging has been waited for. No branches: products may be in flight.
  PA_DEVICE void load_dq_so_far(const BwdWsTile& tile, const Queries& at, DqSoFar& so_far) const {
    const BwdWsTile& here = *opaque(&tile);
    const BwdPlace place = at.before(here);
    const int col = Problem::kSplitsRows ? 0 : group_ * Problem::kDqColumns;
    const int32_t row = place.m * Problem::kBlockQ + (Problem::kSplitsRows ? warp() : warp() % 4) * 16;
    so_far.to = row_pointer<T>(p_.dq, here.item.tile.seq, here.q_rows, row, place.head) + col;
    so_far.valid = here.q_rows.len - row;
    so_far.cols = min_of(p_.head_dim_qk - col, Problem::kDqColumns);
    const bool exists = completes_dq_ && here.shares(place.m) && so_far.valid > 0;
    const float* from = dq_scratch(p_, here.item.tile.seq, here.q_rows, place.head) +
                        row / DqScratch::kRows * dq_scratch_step(p_) + col * DqScratch::kRows + lane() * 4;
    PA_UNROLL
    for (int n = 0; n < DqTile::kN / 8; ++n) {
      so_far.sum[n] = load_past_l1(from + n * 8 * DqScratch::kRows, exists && n * 8 < so_far.cols);
    }
  }

  PA_DEVICE void write_dq(DqTile& dq, const DqSoFar& so_far) const {
    PA_UNROLL
    for (int n = 0; n < DqTile::kN / 8; ++n) {
      dq.at(0, 2 * n) += so_far.sum[n].x;
      dq.at(0, 2 * n + 1) += so_far.sum[n].y;
      dq.at(1, 2 * n) += so_far.sum[n].z;
      dq.at(1, 2 * n + 1) += so_far.sum[n].w;
    }
    store_rows(so_far.to, p_.dq.token_stride, dq, p_.attn_scale, so_far.valid, so_far.valid, so_far.cols, lane());
  }

  // This warp's share of dq to shared memory, in the order of the scratch: a group of rows, or 16 dims of each.
  PA_DEVICE void stage_dq(const DqTile& dq) const {
    constexpr int kBlocks = DqTile::kN / 8;
    constexpr int kBlocksOfGroup = Problem::kTransposesDq ? DqScratch::kRows / 8 : kBlocks;
    constexpr int kBytesWarp = kBlocksOfGroup * 32 * sizeof(float4);
    const float scale = Problem::kOneBlock ? 1.f : p_.attn_scale;  // or it comes when dq is complete
    char* const out = smem_ + Problem::kOffsetDq + warp() * kBytesWarp + group_ * (Problem::kBytesDq - 4 * kBytesWarp);
    PA_UNROLL
    for (int n = 0; n < kBlocks; ++n) {
      float4* const staging = reinterpret_cast<float4*>(out + n / kBlocksOfGroup * Problem::kBytesDqGroup) + lane();
      staging[n % kBlocksOfGroup * 32] = make_float4(dq.at(0, 2 * n) * scale, dq.at(0, 2 * n + 1) * scale,
                                                     dq.at(1, 2 * n) * scale, dq.at(1, 2 * n + 1) * scale);
    }
  }
  PA_DEVICE void hand_dq_over(int slot) {
    fence_async_proxy();
    warp_sync();  // all lanes have written
    release(shared_.dq_full[group_][slot % Problem::kAdders]);
  }

  int group_;          // of consumers
  bool completes_dq_;  // with the keys of the tile at hand
  uint32_t ds_place_;  // of this thread, in shared memory
  uint32_t zero_;
  int key_buffer_ = 0;  // of the tile
  float exp_scale_;
};

}  // namespace portattn::sm90
