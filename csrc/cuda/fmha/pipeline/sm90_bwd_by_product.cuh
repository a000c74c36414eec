// Consumers of the sm_90 backward where dk and dv of 64 keys are too large for one warpgroup: two share a step of 64
// keys by 64 queries by product,
//   scores     s = k q^T;     p = exp2(s - lse);    dv += p do
//   gradients  dp = v do^T;   ds = p (dp - delta);  dk += ds q
// p goes from the one to the other through shared memory and ds into its place, where both read it for their halves of
// dq += ds^T k. docs/deep_dives/sm90_backward.md draws it.
#pragma once

#include "fmha/pipeline/sm90_bwd_wide.cuh"

namespace portattn::sm90 {

enum class BwdRole { kScores, kGradients };

template <class Problem, BwdRole Role>
class BwdByProductConsumer : public BwdWideSteps<Problem> {
 public:
  using Steps = BwdWideSteps<Problem>;
  using T = typename Steps::T;
  using ScoreTile = typename Steps::ScoreTile;
  using Operand = typename Steps::Operand;
  using OuterDqTile = typename Problem::OuterDqTile;
  using InnerDqTile = typename Problem::InnerDqTile;
  static constexpr bool kHasScores = Role == BwdRole::kScores;

  struct Sums {
    std::conditional_t<kHasScores, typename Problem::DvTile, typename Problem::DkTile> gradient;
    PA_DEVICE void clear() { gradient.fill(0.f); }
  };

  using Steps::Steps;

  // Accumulates dv, or dk (to be scaled), of a tile that some query sees.
  PA_DEVICE void run(const BwdWsTile& tile, Sums& sums) {
    if constexpr (Problem::kParts > 1) part_ = uniform(tile.part);
    this->clear_foreign_keys(tile, 0);
    BwdWsWalk at(tile);
    step<true>(tile, at, sums);
    PA_NO_UNROLL
    for (at.advance(tile); at.left > 0; at.advance(tile)) step<false>(tile, at, sums);
    finish(tile, at);
  }

  PA_DEVICE void store(const BwdWsTile& tile, const Sums& sums) const {
    if constexpr (kHasScores) {
      this->store_gradient(p_.dv, tile, sums.gradient, 1.f, p_.head_dim_v);
    } else {
      this->store_gradient(p_.dk, tile, sums.gradient, p_.attn_scale, p_.head_dim_qk);
    }
  }

 private:
  using Steps::at_;
  using Steps::ds_slot;
  using Steps::p_;
  using Steps::shared_;

  // Of the part's columns.
  PA_DEVICE int outer_column() const { return first_dq_column() + (kHasScores ? 0 : Problem::kPartQk - kBoxColumns); }
  PA_DEVICE int inner_column() const { return first_dq_column() + (kHasScores ? kBoxColumns : Problem::kPartQk / 2); }
  PA_DEVICE int first_dq_column() const { return Problem::kParts > 1 ? part_ * Problem::kPartQk : 0; }
  // do, or q, of the part's columns.
  PA_DEVICE int part_offset() const {
    constexpr int kSlabs = (kHasScores ? Problem::kPartV : Problem::kPartQk) / kBoxColumns;
    const int first_slab = Problem::kParts > 1 ? part_ * kSlabs : 0;
    return (kHasScores ? this->do_offset() : this->q_offset()) + first_slab * Problem::kBlockQ * kSlabBytes;
  }

  // One query tile; and this consumer's half of dq of the tile before, whose ds has long arrived: one part is computed
  // during exponentials and added up during the product after them, where the other is computed.
  template <bool First>
  PA_DEVICE void step(const BwdWsTile& tile, const BwdWsWalk& at, Sums& sums) {
    Operand operand;
    OuterDqTile outer;
    InnerDqTile inner;
    this->wait_for_queries(tile, at.m);
    make_operand<First>(tile, at.m, outer, operand);
    this->add_product(sums.gradient, operand, part_offset());
    if constexpr (!kHasScores) this->hand_ds_over();
    if constexpr (!First) {
      wgmma_wait<1>();
      this->add_dq(tile, at, outer, outer_column());
      this->start_dq(inner, inner_column());
    }
    wgmma_wait<0>();
    pin(sums.gradient.data);
    this->release(shared_.empty[at_.index()]);
    if constexpr (!First) {
      pin(inner.data);
      this->release(shared_.ds_empty[ds_slot().previous().index()]);
      this->add_dq(tile, at, inner, inner_column());
    }
    at_.advance();
  }

  // p, or ds; the outer part of dq is in flight.
  template <bool First>
  PA_DEVICE void make_operand(const BwdWsTile& tile, int32_t m, OuterDqTile& outer, Operand& operand) const {
    ScoreTile x;
    const bool plain = this->is_plain(tile, m);
    if constexpr (kHasScores) {
      this->template start_transposed<Problem::kHeadDimQk>(x, 0, this->q_offset());
    } else {
      this->template start_transposed<Problem::kHeadDimV>(x, Problem::kOffsetV, this->do_offset());
    }
    if constexpr (!First) this->start_dq(outer, outer_column());
    if constexpr (!kHasScores) read_p(operand);
    wgmma_wait<First ? 0 : 1>();
    pin(x.data);
    if constexpr (kHasScores) {
      if (!plain) this->mask(tile, m, x);
      this->to_probabilities(x);
      pack_operand<T>(x, operand);
      write_p(operand);
    } else {
      this->to_score_gradients(operand, x);
      pack_operand<T>(x, operand);
      this->write_ds(operand);
    }
  }

  // dq of the last query tile.
  PA_DEVICE void finish(const BwdWsTile& tile, const BwdWsWalk& at) const {
    OuterDqTile outer;
    InnerDqTile inner;
    this->start_dq(outer, outer_column());
    this->start_dq(inner, inner_column());
    wgmma_wait<0>();
    pin(inner.data);
    this->release(shared_.ds_empty[ds_slot().previous().index()]);
    this->add_dq(tile, at, outer, outer_column());
    this->add_dq(tile, at, inner, inner_column());
  }

  // p goes, in the order of a warp's registers, to the warp that has the same keys; ds will lie there.
  PA_DEVICE void write_p(const Operand& p) const {
    uint4* out = reinterpret_cast<uint4*>(this->ds_of_warp()) + this->lane();
    shared_.ds_empty[ds_slot().index()].wait(ds_slot().parity() ^ 1);
    PA_UNROLL
    for (int k = 0; k < Steps::kQuerySteps; ++k) out[k * 32] = make_uint4(p[k][0], p[k][1], p[k][2], p[k][3]);
    warp_sync();  // all lanes have written
    this->release(shared_.p_full[ds_slot().index()]);
  }
  PA_DEVICE void read_p(Operand& p) const {
    const uint4* in = reinterpret_cast<const uint4*>(this->ds_of_warp()) + this->lane();
    shared_.p_full[ds_slot().index()].wait(ds_slot().parity());
    PA_UNROLL
    for (int k = 0; k < Steps::kQuerySteps; ++k) {
      const uint4 x = in[k * 32];
      p[k][0] = x.x, p[k][1] = x.y, p[k][2] = x.z, p[k][3] = x.w;
    }
    warp_sync();  // all lanes have read
  }

  int part_ = 0;  // of the tile's head
};

}  // namespace portattn::sm90
