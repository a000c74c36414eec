// The order in which blocks of an sm_90 backward add dq, for the same bits in every run. At every query tile of a head,
// the tiles of keys that it sees add one after the other, first keys first, each when the word of that place
// (DqScratch::turns) names it:
//   word = number of key tiles of the sequence up to the one that added last; 0 at the start
#pragma once

#include "arch/sm90/turns.cuh"
#include "fmha/pipeline/sm90_bwd_tile.cuh"

namespace portattn::sm90 {

// One consumer's dq; the lanes of one warp.
//
// Nobody waits for ever, however few blocks are on the device: a tile waits for the one before it in its sequence only.
// That one is an earlier item of the work order (make_ordered_key_order, first_keys_first), so a block has drawn it
// before; blocks serve their items in the order in which they drew them; so the earliest item that is not done waits
// for nobody.
template <class Problem>
class BwdWsTurns {
 public:
  using Walk = typename Problem::Walk;

  PA_DEVICE BwdWsTurns(const AttnParams& p, int consumer, int lane) : p_(p), consumer_(consumer), lane_(lane) {}

  // Before the first step of a tile.
  PA_DEVICE void begin(const BwdWsTile& tile, const Walk& first) {
    look(tile, first);
    fence_turns();
  }

  // Waits until the tile before has added to the queries of this step, if it sees them at all.
  PA_DEVICE void wait(const BwdWsTile& tile, const Walk& at) const {
    if (at.m >= tile.shared_end || turn_ == tile.item.tile.block) return;
    while (look_at_turn(word_) != tile.item.tile.block) {
    }
    fence_turns();
  }

  // Waits for the end of this step's adds and lets the next tile add; `next` is the step after it. While the adds
  // travel, looks whose turn it is there: mostly this tile's by now. The fence, which takes as long, serves both.
  PA_DEVICE void pass(const BwdWsTile& tile, const Walk& next) {
    int32_t* done = word_;
    look(tile, next);
    wait_bulk();
    warp_sync();  // all lanes' adds have ended
    fence_turns();
    if (lane_ == 0) write_turn(done, tile.item.tile.block + 1);
  }

 private:
  PA_DEVICE void look(const BwdWsTile& tile, const Walk& at) {
    if (at.left == 0) return;
    constexpr int32_t kGroups = Problem::kBlockQ / DqScratch::kRows;
    const int64_t group = dq_scratch_group(p_, tile.item.tile.seq, tile.q_rows) + int64_t{at.m} * kGroups;
    word_ = p_.dq_accum.turns + (group * p_.num_heads_q + at.head) * DqScratch::kTurns + consumer_;
    turn_ = look_at_turn(word_);
  }

  const AttnParams& p_;
  int consumer_;
  int lane_;
  int32_t* word_ = nullptr;  // of the step at hand
  int32_t turn_ = 0;         // what it said when the step before was done
};

}  // namespace portattn::sm90
