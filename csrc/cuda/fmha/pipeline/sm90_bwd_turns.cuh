// The order in which blocks of an sm_90 backward add dq, for the same bits in every run. At every query tile of a head,
// the tiles of keys that it sees add one after the other, first keys first or last keys first (last_keys_first), each
// when the word of that place (DqScratch::turns) names the one before it:
//   word = 1 + the tile of keys of the sequence that added last; 0 at the start
#pragma once

#include "arch/sm90/turns.cuh"
#include "fmha/pipeline/sm90_bwd_tile.cuh"

namespace portattn::sm90 {

// One consumer's dq; one warp.
//
// Nobody waits for ever, however few blocks are on the device: a tile waits for the one before it in its sequence only.
// That one is an earlier item of the work order (make_ordered_key_order), so a block has drawn it before; blocks serve
// their items in the order in which they drew them; so the earliest item that is not done waits for nobody.
template <class Problem>
class BwdWsTurns {
 public:
  using Walk = typename Problem::Walk;

  // `tid` counts the threads of all adders.
  PA_DEVICE BwdWsTurns(const AttnParams& p, int tid) : p_(p), tid_(tid) {}

  // Before the first step of a tile.
  PA_DEVICE void begin(const BwdWsTile& tile, const Walk& first) {
    look(tile, first);
    fence_turns();
  }

  // Waits until the tile before has added to the queries of this step, if it sees them at all.
  PA_DEVICE void wait(const BwdWsTile& tile, const Walk& at) const {
    if (!tile.shares(at.m) || turn_ == tile.before + 1) return;
    const int32_t* word = p_.dq_accum.turns + place(tile, at);
    while (look_at_turn(word) != tile.before + 1) {
    }
    fence_turns();
  }

  // Waits for the end of this step's adds and lets the next tile add; `next` is the warp's step after it. While the
  // adds travel, looks whose turn it is there: mostly this tile's by now. The fence, which takes as long, serves both.
  PA_DEVICE void pass(const BwdWsTile& tile, const Walk& done, const Walk& next) {
    const int32_t here = place(tile, done);
    if (next.left > 0) look(tile, next);
    wait_bulk();
    warp_sync();  // all lanes' adds have ended
    fence_turns();
    if (opaque(tid_) % 32 == 0) write_turn(p_.dq_accum.turns + here, tile.item.tile.block + 1);
  }

 private:
  PA_DEVICE void look(const BwdWsTile& tile, const Walk& at) {
    turn_ = look_at_turn(p_.dq_accum.turns + place(tile, at));
  }

  // Of a step's word. 32 bits hold it as long as a q of hidden size 64 takes less than 2 TB.
  PA_DEVICE int32_t place(const BwdWsTile& tile, const Walk& at) const {
    constexpr int32_t kGroups = Problem::kBlockQ / DqScratch::kRows;
    const auto group = static_cast<int32_t>(dq_scratch_group(p_, tile.item.tile.seq, tile.q_rows)) + at.m * kGroups;
    const int consumer = opaque(tid_) / 32 / Problem::kAdders;
    return (group * p_.num_heads_q + at.head) * DqScratch::kTurns + consumer;
  }

  const AttnParams& p_;
  int tid_;
  int32_t turn_ = 0;  // what the word of the step at hand said when the step before was done
};

}  // namespace portattn::sm90
