// Forward pipeline of sm_90, warp-specialised: two threads feed shared memory (sm90_fwd_feed.cuh), consumer warpgroups
// of 64 query rows each multiply with wgmma. Each starts q k^T of the next key block together with p v of the last,
//   s' = q k[n-1]^T, o += p v[n] in flight together;  p' = online softmax(mask(s'))
// of the next tile's first block together with the last of this one; and they take turns, so that one's products run
// while another does softmax. After FlashAttention-3 (https://arxiv.org/abs/2407.08608, sections 3.1 and 3.2).
#pragma once

#include "arch/sm90/wgmma.cuh"
#include "attn/score.cuh"
#include "fmha/pipeline/sm90_fwd_epilogue.cuh"
#include "fmha/pipeline/sm90_operands.cuh"

namespace portattn::sm90 {

template <class Problem>
class FwdWsConsumer {
 public:
  using T = typename Problem::Element;
  using ScoreTile = typename Problem::ScoreTile;
  using OutTile = typename Problem::OutTile;
  using Softmax = OnlineSoftmax<ScoreTile>;
  using Shared = FwdWsShared<Problem>;

  // `tid` counts the threads of all consumers.
  PA_DEVICE FwdWsConsumer(const AttnParams& p, char* smem, Shared& shared, int tid)
      : smem_(smem),
        shared_(shared),
        epilogue_(p, tid),
        tid_(tid),
        group_(uniform(tid / 128)),
        q_(descriptor(smem_address(smem) + group_ * 64 * kSlabBytes)),
        k_(descriptor(smem_address(smem) + Problem::kOffsetK)),
        v_(descriptor_transposed(smem_address(smem) + Problem::kOffsetV, Problem::kBlockKv * kSlabBytes)) {}

  // Computes every tile that the scheduler describes.
  PA_DEVICE void run() {
    open_turns();
    ScoreTile s;
    OutTile o;
    Weights p;
    for (await_tile(); tile().exists; await_tile()) {
      if (tile().is_empty()) {
        epilogue_.store_empty(tile());
        release(shared_.q_empty[buffer_.index()]);
        leave_tile();
        continue;
      }
      wait_for_keys(0);
      my_turn();
      start_scores(s);
      next_turn();
      release_first_keys<0>();
      wgmma_wait<0>();
      pin(s.data);
      while (compute_tile(s, o, p)) {
      }
    }
  }

 private:
  static constexpr int kSteps = Problem::kBlockKv / 16;  // of p v
  // Where products are long, as they are where queries have one buffer, turns cost more than they bring.
  static constexpr bool kTurns = Problem::kConsumers > 1 && Problem::kQueryBuffers > 1;

  using Weights = uint32_t[kSteps][4];  // p as the operand of p v
  // In registers where they have room: with the largest heads they have none.
  using Blocks = std::conditional_t<(Problem::kQueryBuffers > 1), const BlockRange, const BlockRange&>;

  // One tile, whose scores of the last key block are in `s`. Whether those of the next tile are there afterwards.
  PA_DEVICE bool compute_tile(ScoreTile& s, OutTile& o, Weights& p) {
    Softmax softmax(epilogue_.exp_scale());
    o.fill(0.f);
    attend(tile(), softmax, s, o, p);
    if constexpr (Problem::kQueryBuffers > 1) {
      return finish_beside_next(softmax, s, o, p);
    } else {
      finish(softmax, o, p);
      return false;
    }
  }

  // Goes from the last key block to the first, whose values are left to be added.
  PA_DEVICE void attend(const FwdWsTile& tile, Softmax& softmax, ScoreTile& s, OutTile& o, Weights& p) {
    RowValues<ScoreTile> rescale;
    Blocks blocks = tile.blocks;
    int32_t n = blocks.end - 1;
    release_operands(n == blocks.begin);
    clear_foreign_rows(tile);
    mask(tile, blocks, n, s);
    softmax.follow(s, rescale);
    softmax.exponentiate(s);
    pack_operand<T>(s, p);
    PA_NO_UNROLL
    for (--n; n >= blocks.begin; --n) {
      const RingSlot<Problem::kStages> last = at_;
      at_.advance();
      wait_for_keys(0);
      my_turn();
      start_scores(s);
      shared_.v_full[last.index()].wait(last.parity());
      add_values(o, p, last);
      next_turn();
      release_first_keys<1>();
      wgmma_wait<1>();
      pin(s.data);
      release_operands(n == blocks.begin);
      mask(tile, blocks, n, s);
      const bool moves = softmax.follow(s, rescale);
      softmax.exponentiate(s);
      wgmma_wait<0>();
      pin(o.data);
      release(shared_.v_empty[last.index()]);
      pack_operand<T>(s, p);
      if (moves) Softmax::scale_rows(o, rescale);
    }
  }

  // Where keys come in two parts: the first is free, while the second and `Pending` groups after it are in flight.
  template <int Pending>
  PA_DEVICE void release_first_keys() const {
    if constexpr (Problem::kKeyParts > 1) {
      wgmma_wait<Pending + 1>();
      release_keys(0);
    }
  }

  // The scores are there: their keys are free, and after the last ones the queries, unless o will be staged there.
  PA_DEVICE void release_operands(bool is_last) const {
    if (Problem::kQueryBuffers == 1 && is_last) release(shared_.q_empty[buffer_.index()]);
    release_keys(Problem::kKeyParts - 1);
  }

  PA_DEVICE void finish(Softmax& softmax, OutTile& o, const Weights& p) {
    shared_.v_full[at_.index()].wait(at_.parity());
    add_values(o, p, at_);
    wgmma_wait<0>();
    pin(o.data);
    release(shared_.v_empty[at_.index()]);
    at_.advance();
    epilogue_.store(tile(), softmax, o);
    leave_tile();
  }

  // The same, with the next tile's first scores in flight meanwhile; without a next tile scores of anything.
  PA_DEVICE bool finish_beside_next(Softmax& softmax, ScoreTile& s, OutTile& o, const Weights& p) {
    const FwdWsTile& done = tile();
    char* staging = queries();
    Barrier &q_empty = shared_.q_empty[buffer_.index()], &tile_empty = shared_.tile_empty[slot_.index()];
    const RingSlot<Problem::kStages> last = at_;
    at_.advance();
    buffer_.advance();
    slot_.advance();
    await_tile();
    const bool has_next = tile().exists && !tile().is_empty();
    shared_.v_full[last.index()].wait(last.parity());
    if (has_next) wait_for_keys(0);
    my_turn();
    if (!kTurns) named_sync(1, 128);  // as turns do: no warp of this warpgroup reads the queries any more
    add_values(o, p, last);
    start_scores(s);
    next_turn();
    wgmma_wait<1>();
    pin(o.data);
    release(shared_.v_empty[last.index()]);
    epilogue_.store(done, softmax, o, staging);
    release(q_empty);
    release(tile_empty);
    wgmma_wait<0>();
    pin(s.data);
    return has_next;
  }

  PA_DEVICE const FwdWsTile& tile() const { return shared_.tile(slot_.index()); }
  PA_DEVICE char* queries() const { return smem_ + buffer_.index() * Problem::kBytesQ; }
  PA_DEVICE void await_tile() const { shared_.q_full[buffer_.index()].wait(buffer_.parity()); }
  PA_DEVICE void leave_tile() {
    release(shared_.tile_empty[slot_.index()]);
    buffer_.advance();
    slot_.advance();
  }

  PA_DEVICE void release(Barrier& barrier) const {
    if (tid_ % 32 == 0) barrier.arrive();
  }

  // Consumer 0 goes first.
  PA_DEVICE void open_turns() const {
    if (kTurns && group_ == Problem::kConsumers - 1) named_arrive(1, 256);
  }
  PA_DEVICE void my_turn() const {
    if (kTurns) named_sync(1 + group_, 256);
  }
  PA_DEVICE void next_turn() const {
    if (kTurns) named_arrive(1 + (group_ + 1) % Problem::kConsumers, 256);
  }

  // Where there is one of each buffer, descriptors would be the same all along, and be kept in registers: too many.
  static PA_DEVICE uint64_t opaque_low(uint64_t descriptor) {
    return descriptor >> 32 << 32 | opaque(static_cast<uint32_t>(descriptor));
  }

  PA_DEVICE void wait_for_keys(int part) const {
    shared_.k_full[at_.index() * Problem::kKeyParts + part].wait(at_.parity());
  }
  PA_DEVICE void release_keys(int part) const { release(shared_.k_empty[at_.index() * Problem::kKeyParts + part]); }

  // s = q k^T of the current slot, in flight, a group for each part of the keys; the first part has arrived.
  PA_DEVICE void start_scores(ScoreTile& s) const {
    constexpr int kSteps = Problem::kColsQk / 16 / Problem::kKeyParts;
    uint64_t q = advance(q_, buffer_.index() * Problem::kBytesQ), k = advance(k_, at_.index() * Problem::kBytesK);
    if (Problem::kStages == 1) q = opaque_low(q), k = opaque_low(k);
    pin(s.data);
    wgmma_fence();
    PA_UNROLL
    for (int part = 0; part < Problem::kKeyParts; ++part) {
      if (part > 0) {
        wait_for_keys(part);
        wgmma_fence();
      }
      PA_UNROLL
      for (int step = part * kSteps; step < (part + 1) * kSteps; ++step) {
        if (step * 16 >= Problem::kHeadDimQk) continue;
        const int slab = step / 4, in_slab = step % 4 * 32;
        wgmma<0>(s.data, advance(q, slab * Problem::kBlockQ * kSlabBytes + in_slab),
                 advance(k, slab * Problem::kBlockKv * kSlabBytes + in_slab), step > 0, T{});
      }
      wgmma_commit();
    }
  }

  // o += p v, in flight.
  PA_DEVICE void add_values(OutTile& o, const Weights& p, const RingSlot<Problem::kStages>& slot) const {
    const uint64_t v = advance(v_, slot.index() * Problem::kBytesV);
    pin(o.data);
    wgmma_fence();
    PA_UNROLL
    for (int step = 0; step < kSteps; ++step) wgmma<1>(o.data, p[step], advance(v, step * 16 * kSlabBytes), 1, T{});
    wgmma_commit();
  }

  PA_DEVICE void mask(const FwdWsTile& tile, const BlockRange& blocks, int32_t n, ScoreTile& s) const {
    if (blocks.is_full(n)) return;
    // Opaque, so that nothing of this is prepared outside and kept in registers.
    const FwdWsTile& here = *opaque(&tile);
    const int tid = opaque(tid_);
    mask_tile(s, tid % 32, here.visible, here.rows.first + tid / 32 * 16, n * Problem::kBlockKv);
  }

  // Rows of v past the sequence: only the last block of a sequence has any, the first that is taken.
  PA_DEVICE void clear_foreign_rows(const FwdWsTile& tile) const {
    const int32_t valid = tile.visible.seqlen_kv() - (tile.blocks.end - 1) * Problem::kBlockKv;
    if (valid >= Problem::kBlockKv) return;
    shared_.v_full[at_.index()].wait(at_.parity());
    constexpr bool kAlone = Problem::kClearsAlone;
    constexpr int kThreads = kAlone ? 128 : 128 * Problem::kConsumers;
    char* const v = smem_ + Problem::kOffsetV + at_.index() * Problem::kBytesV;
    clear_rows<Problem::kBlockKv, Problem::kColsV, kThreads, kAlone>(v, valid, kAlone ? tid_ % 128 : tid_);
    fence_async_proxy();
    named_sync(1 + Problem::kConsumers + (kAlone ? group_ : 0), kThreads);  // all is cleared
  }

  char* smem_;
  Shared& shared_;
  FwdWsEpilogue<Problem> epilogue_;
  int tid_, group_;
  uint64_t q_, k_, v_;  // descriptors of the first buffers; of q, this warpgroup's rows
  RingSlot<kTileSlots> slot_;
  RingSlot<Problem::kQueryBuffers> buffer_;
  RingSlot<Problem::kStages> at_;
};

}  // namespace portattn::sm90
