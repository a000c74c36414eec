// Consumers of the sm_90 backward where dk and dv of 64 keys fit in one warpgroup, but leave no room for scores and
// their gradients side by side: two share a step of 128 keys by 64 queries by keys, and each makes
//   s = k q^T;   p = exp2(s - lse);   dp = v do^T;   dv += p do;   ds = p (dp - delta);   dk += ds q
// and half of the columns of dq += ds^T k, which sums over the keys of both.
#pragma once

#include "fmha/pipeline/sm90_bwd_wide.cuh"

namespace portattn::sm90 {

template <class Problem>
class BwdByKeysConsumer : public BwdWideSteps<Problem> {
 public:
  using Steps = BwdWideSteps<Problem>;
  using T = typename Steps::T;
  using ScoreTile = typename Steps::ScoreTile;
  using Operand = typename Steps::Operand;

  struct Sums {
    typename Problem::DkTile dk;
    typename Problem::DvTile dv;
    PA_DEVICE void clear() {
      dk.fill(0.f);
      dv.fill(0.f);
    }
  };

  PA_DEVICE BwdByKeysConsumer(const AttnParams& p, char* smem, typename Steps::Shared& shared, int tid)
      : Steps(p, smem, shared, tid), group_(uniform(tid / 128)) {}

  // Accumulates dk (to be scaled) and dv of a tile that some query sees.
  PA_DEVICE void run(const BwdWsTile& tile, Sums& sums) {
    this->clear_foreign_keys(tile, 0);
    BwdWsWalk at(tile);
    step<true>(tile, at, sums);
    PA_NO_UNROLL
    for (at.advance(tile); at.left > 0; at.advance(tile)) step<false>(tile, at, sums);
    make_dq(tile, at);
  }

  PA_DEVICE void store(const BwdWsTile& tile, const Sums& sums) const {
    this->store_gradient(p_.dk, tile, sums.dk, p_.attn_scale, p_.head_dim_qk);
    this->store_gradient(p_.dv, tile, sums.dv, 1.f, p_.head_dim_v);
  }

 private:
  using Steps::at_;
  using Steps::p_;
  using Steps::shared_;

  // One query tile; and then this consumer's half of dq of the tile before, whose ds has long arrived: only now there
  // are registers for it.
  template <bool First>
  PA_DEVICE void step(const BwdWsTile& tile, const BwdWsWalk& at, Sums& sums) {
    Operand p, ds;
    this->wait_for_queries(tile, at.m);
    make_probabilities(tile, at.m, p);
    make_score_gradients(p, sums.dv, ds);
    this->add_product(sums.dk, ds, this->q_offset());
    this->hand_ds_over();
    wgmma_wait<0>();
    pin(sums.dk.data);
    pin(sums.dv.data);
    this->release(shared_.empty[at_.index()]);
    if constexpr (!First) make_dq(tile, at);
    at_.advance();
  }

  PA_DEVICE void make_probabilities(const BwdWsTile& tile, int32_t m, Operand& p) const {
    ScoreTile s;
    const bool plain = this->is_plain(tile, m);
    this->template start_transposed<Problem::kHeadDimQk>(s, keys_offset(), this->q_offset());
    wgmma_wait<0>();
    pin(s.data);
    if (!plain) this->mask(tile, m, s);
    this->to_probabilities(s);
    pack_operand<T>(s, p);
  }

  // ds; dv += p do is in flight meanwhile and after.
  PA_DEVICE void make_score_gradients(const Operand& p, typename Problem::DvTile& dv, Operand& ds) const {
    ScoreTile dp;
    this->template start_transposed<Problem::kHeadDimV>(dp, Problem::kOffsetV + keys_offset(), this->do_offset());
    this->add_product(dv, p, this->do_offset());
    wgmma_wait<1>();
    pin(dp.data);
    this->to_score_gradients(p, dp);
    pack_operand<T>(dp, ds);
    shared_.ds_empty[this->ds_slot().index()].wait(this->ds_slot().parity() ^ 1);
    this->write_ds(ds);
  }

  // dq of the slot before.
  PA_DEVICE void make_dq(const BwdWsTile& tile, const BwdWsWalk& at) const {
    typename Problem::OuterDqTile outer;
    typename Problem::InnerDqTile inner;
    const int outer_column = group_ == 0 ? 0 : Problem::kHeadDimQk - kBoxColumns;
    const int inner_column = group_ == 0 ? kBoxColumns : Problem::kHeadDimQk / 2;
    this->start_dq(outer, outer_column);
    this->start_dq(inner, inner_column);
    wgmma_wait<1>();
    this->add_dq(tile, at, outer, outer_column);
    wgmma_wait<0>();
    pin(inner.data);
    this->release(shared_.ds_empty[this->ds_slot().previous().index()]);
    this->add_dq(tile, at, inner, inner_column);
  }

  PA_DEVICE int keys_offset() const { return group_ * 64 * kSlabBytes; }

  int group_;  // of consumers
};

}  // namespace portattn::sm90
