// Forward pipeline of sm_90, warp-specialised: one warp of a producer warpgroup loads tiles by TMA, consumer warpgroups
// of 64 query rows each multiply with wgmma. Consumers take turns, so that one's products run while another does
// softmax, and each starts q k^T of the next key block before p v of the last:
//   s' = q k[n-1]^T, o += p v[n] in flight together;  p' = online softmax(mask(s')) while o is still being added to
// After FlashAttention-3 (https://arxiv.org/abs/2407.08608, sections 3.1 and 3.2).
#pragma once

#include "arch/sm90/tma.cuh"
#include "arch/sm90/wgmma.cuh"
#include "attn/score.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/softmax.cuh"
#include "attn/visibility.cuh"
#include "attn/work_order.cuh"

namespace portattn::sm90 {

// Forward: a block has `Consumers` warpgroups of 64 query rows, and one that loads. MinSeqlen, and MinSeqlenCausal
// under a causal mask: how long sequences may have to be for the kernel to be worth choosing.
template <class T, int HeadDimQk, int HeadDimV, int Consumers, int BlockKv, int Stages, int MinSeqlen,
          int MinSeqlenCausal>
struct FwdWsProblem {
  using Element = T;
  static constexpr int kHeadDimQk = HeadDimQk;
  static constexpr int kHeadDimV = HeadDimV;
  static constexpr int kConsumers = Consumers;
  static constexpr int kBlockQ = 64 * Consumers;
  static constexpr int kBlockKv = BlockKv;
  static constexpr int kStages = Stages;
  static constexpr int kMinSeqlen = MinSeqlen;
  static constexpr int kMinSeqlenCausal = MinSeqlenCausal;
  static constexpr int kThreads = 128 * (Consumers + 1);
  // Together as many as the block was launched with: 168 a thread with two consumers, 128 with three.
  static constexpr int kProducerRegisters = Consumers == 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = Consumers == 2 ? 232 : 160;
  static_assert(HeadDimQk % kBoxColumns == 0 && HeadDimV % kBoxColumns == 0, "tiles are whole slabs");

  using ScoreTile = AccTile<float, 16, BlockKv>;  // a warp's share
  using OutTile = AccTile<float, 16, HeadDimV>;

  static constexpr int kBytesQ = kBlockQ * HeadDimQk * 2;
  static constexpr int kBytesK = BlockKv * HeadDimQk * 2;
  static constexpr int kBytesV = BlockKv * HeadDimV * 2;
  static constexpr int kOffsetK = kBytesQ;
  static constexpr int kOffsetV = kOffsetK + Stages * kBytesK;
  static constexpr int kTileBytes = kOffsetV + Stages * kBytesV;
};

struct FwdWsParams {
  AttnParams attn;
  CUtensorMap q, k, v;
  WorkOrder order;
};

// One tile of queries, as the producer describes it to the consumers.
struct FwdWsTile {
  WorkItem item;
  SeqRows q_rows;
  int32_t kv_start;  // row of the sequence's first key
  TileRows rows;
  BlockRange blocks;
  Visibility visible;
  bool exists;  // false: there is no more work
};

// Three tiles are described at a time: the one that consumers may still store, the one being loaded, and the next.
constexpr int kTileSlots = 3;

// What the warps of a block share, after the tiles in shared memory.
template <int Stages>
struct FwdWsShared {
  Barrier q_full, q_empty, k_full[Stages], k_empty[Stages], v_full[Stages], v_empty[Stages];
  alignas(16) char tiles[kTileSlots][sizeof(FwdWsTile)];

  PA_DEVICE FwdWsTile& tile(int slot) { return reinterpret_cast<FwdWsTile&>(tiles[slot]); }
};

template <class Problem>
class FwdWsProducer {
 public:
  using Shared = FwdWsShared<Problem::kStages>;

  PA_DEVICE FwdWsProducer(const FwdWsParams& params, char* smem, Shared& shared)
      : params_(params), p_(params.attn), smem_(smem), shared_(shared) {}

  // Loads the tiles of work items until there are none; one thread. A tile is described in shared memory and read back
  // from there: this warpgroup has given its registers to the others.
  PA_DEVICE void run(int32_t first, int32_t step) {
    prefetch_map(params_.q);
    if (p_.kv_side.seqlen > 0) {
      prefetch_map(params_.k);
      prefetch_map(params_.v);
    }
    RingSlot<kTileSlots> slot;
    describe(first, slot.index());
    PA_NO_UNROLL
    for (;;) {
      shared_.q_empty.wait(slot.count % 2 ^ 1);
      const FwdWsTile& tile = *opaque(&shared_.tile(slot.index()));
      if (!tile.exists) break;
      load(tile);
      slot.advance();
      describe(step + atomicAdd(p_.next_item, 1), slot.index());
    }
    shared_.q_full.arrive();
  }

 private:
  PA_DEVICE void describe(int32_t index, int slot) const {
    FwdWsTile* tile = opaque(&shared_.tile(slot));
    const int32_t num_steps = params_.order.steps(p_.q_side);
    tile->exists = index < params_.order.lanes * num_steps;
    if (index >= params_.order.lanes * num_steps) return;
    tile->item = params_.order.item(p_.q_side, index, num_steps);
    tile = opaque(tile);
    tile->q_rows = seq_rows(p_.q_side, p_.batch, tile->item.tile.seq);
    tile->rows = TileRows(tile->q_rows, tile->item.tile.block, Problem::kBlockQ);
    tile = opaque(tile);
    const SeqRows kv_rows = seq_rows(p_.kv_side, p_.batch, tile->item.tile.seq);
    tile->kv_start = static_cast<int32_t>(kv_rows.start);
    tile->visible = Visibility(p_, tile->q_rows.len, kv_rows.len);
    tile = opaque(tile);
    tile->blocks = BlockRange{0, 0, 0, 0};
    if (tile->rows.valid > 0) {
      tile->blocks = key_blocks(tile->visible, tile->rows.first, tile->rows.valid, Problem::kBlockKv);
    }
  }

  PA_DEVICE void load(const FwdWsTile& tile) {
    if (tile.blocks.begin >= tile.blocks.end) return shared_.q_full.arrive();
    const int32_t seq = tile.item.tile.seq;
    shared_.q_full.arrive_expect(Problem::kBytesQ);
    load_tile<Problem::kBlockQ, Problem::kHeadDimQk>(smem_, params_.q, shared_.q_full,
                                                     static_cast<int32_t>(tile.q_rows.start) + tile.rows.first,
                                                     tile.item.head, p_.q_side.is_thd ? 0 : seq, kEvictFirst);
    const int32_t head = tile.item.head / (p_.num_heads_q / p_.num_heads_kv), batch = p_.kv_side.is_thd ? 0 : seq;
    const int32_t begin = tile.kv_start + tile.blocks.begin * Problem::kBlockKv;
    int32_t row = tile.kv_start + (tile.blocks.end - 1) * Problem::kBlockKv;
    PA_NO_UNROLL
    for (; row >= begin; row -= Problem::kBlockKv) {
      const int s = at_.index();
      shared_.k_empty[s].wait(at_.parity() ^ 1);
      shared_.k_full[s].arrive_expect(Problem::kBytesK);
      load_tile<Problem::kBlockKv, Problem::kHeadDimQk>(smem_ + Problem::kOffsetK + s * Problem::kBytesK, params_.k,
                                                        shared_.k_full[s], row, head, batch, kEvictLast);
      shared_.v_empty[s].wait(at_.parity() ^ 1);
      shared_.v_full[s].arrive_expect(Problem::kBytesV);
      load_tile<Problem::kBlockKv, Problem::kHeadDimV>(smem_ + Problem::kOffsetV + s * Problem::kBytesV, params_.v,
                                                       shared_.v_full[s], row, head, batch, kEvictLast);
      at_.advance();
    }
  }

  template <int Rows, int Cols>
  static PA_DEVICE void load_tile(char* smem, const CUtensorMap& map, Barrier& full, int32_t row, int32_t head,
                                  int32_t batch, uint64_t policy) {
    PA_UNROLL
    for (int col = 0; col < Cols; col += kBoxColumns) {
      load_box(smem + col * 2 * Rows, map, full, col, row, head, batch, policy);
    }
  }

  const FwdWsParams& params_;
  const AttnParams& p_;
  char* smem_;
  Shared& shared_;
  RingSlot<Problem::kStages> at_;
};

template <class Problem>
class FwdWsConsumer {
 public:
  using T = typename Problem::Element;
  using ScoreTile = typename Problem::ScoreTile;
  using OutTile = typename Problem::OutTile;
  using Softmax = OnlineSoftmax<ScoreTile>;
  using Shared = FwdWsShared<Problem::kStages>;
  static constexpr int kSteps = Problem::kBlockKv / 16;  // of p v

  // `tid` counts the threads of all consumers.
  PA_DEVICE FwdWsConsumer(char* smem, Shared& shared, int tid) : smem_(smem), shared_(shared), tid_(tid) {}

  // Accumulates o over the key blocks of a tile that has some.
  PA_DEVICE void run(const FwdWsTile& tile, Softmax& softmax, OutTile& o) {
    clear_foreign_rows(tile);
    o.fill(0.f);
    ScoreTile s;
    uint32_t p[kSteps][4];
    RowValues<ScoreTile> rescale;
    int32_t n = tile.blocks.end - 1;
    shared_.k_full[at_.index()].wait(at_.parity());
    my_turn();
    start_scores(s);
    next_turn();
    wgmma_wait<0>();
    pin(s.data);
    if (n == tile.blocks.begin) release(shared_.q_empty);
    release(shared_.k_empty[at_.index()]);
    mask(tile, n, s);
    softmax.follow(s, rescale);
    softmax.exponentiate(s);
    pack(s, p);
#pragma unroll 1
    for (--n; n >= tile.blocks.begin; --n) {
      const RingSlot<Problem::kStages> last = at_;
      at_.advance();
      shared_.k_full[at_.index()].wait(at_.parity());
      my_turn();
      start_scores(s);
      shared_.v_full[last.index()].wait(last.parity());
      add_values(o, p, last);
      next_turn();
      wgmma_wait<1>();
      pin(s.data);
      if (n == tile.blocks.begin) release(shared_.q_empty);
      release(shared_.k_empty[at_.index()]);
      mask(tile, n, s);
      const bool moves = softmax.follow(s, rescale);
      softmax.exponentiate(s);
      wgmma_wait<0>();
      pin(o.data);
      release(shared_.v_empty[last.index()]);
      pack(s, p);
      if (moves) Softmax::scale_rows(o, rescale);
    }
    shared_.v_full[at_.index()].wait(at_.parity());
    add_values(o, p, at_);
    wgmma_wait<0>();
    pin(o.data);
    release(shared_.v_empty[at_.index()]);
    at_.advance();
  }

  PA_DEVICE void release(Barrier& barrier) const {
    if (tid_ % 32 == 0) barrier.arrive();
  }

  // Consumer 0 goes first.
  PA_DEVICE void open_turns() const {
    if (kTurns && group() == Problem::kConsumers - 1) named_arrive(1, 256);
  }

 private:
  static constexpr bool kTurns = Problem::kConsumers > 1;

  PA_DEVICE int group() const { return tid_ / 128; }

  PA_DEVICE void my_turn() const {
    if (kTurns) named_sync(1 + group(), 256);
  }
  PA_DEVICE void next_turn() const {
    if (kTurns) named_arrive(1 + (group() + 1) % Problem::kConsumers, 256);
  }

  // s = q k^T of the current slot, in flight.
  PA_DEVICE void start_scores(ScoreTile& s) const {
    // Opaque, or all its descriptors would be kept in registers.
    const uint32_t q = opaque(smem_address(smem_) + group() * 64 * kSlabBytes);
    const uint32_t k = smem_address(smem_) + Problem::kOffsetK + at_.index() * Problem::kBytesK;
    pin(s.data);
    wgmma_fence();
    PA_UNROLL
    for (int step = 0; step < Problem::kHeadDimQk / 16; ++step) {
      const int slab = step / 4, in_slab = step % 4 * 32;
      wgmma<0>(s.data, descriptor(q + slab * Problem::kBlockQ * kSlabBytes + in_slab),
               descriptor(k + slab * Problem::kBlockKv * kSlabBytes + in_slab), step > 0, T{});
    }
    wgmma_commit();
  }

  // o += p v, in flight.
  PA_DEVICE void add_values(OutTile& o, const uint32_t (&p)[kSteps][4], const RingSlot<Problem::kStages>& slot) const {
    const uint32_t v = smem_address(smem_) + Problem::kOffsetV + slot.index() * Problem::kBytesV;
    pin(o.data);
    wgmma_fence();
    PA_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      wgmma<1>(o.data, p[step], descriptor_transposed(v + step * 16 * kSlabBytes, Problem::kBlockKv * kSlabBytes), 1,
               T{});
    }
    wgmma_commit();
  }

  PA_DEVICE void mask(const FwdWsTile& tile, int32_t n, ScoreTile& s) const {
    if (tile.blocks.is_full(n)) return;
    // Opaque, so that nothing of this is prepared outside and kept in registers.
    const FwdWsTile& here = *opaque(&tile);
    const int tid = opaque(tid_);
    mask_tile(s, tid % 32, here.visible, here.rows.first + tid / 32 * 16, n * Problem::kBlockKv);
  }

  // Rows of v past the sequence hold anything, NaN too, and 0 * NaN is NaN: they become 0. Only the last block of a
  // sequence has any, the first that is taken.
  PA_DEVICE void clear_foreign_rows(const FwdWsTile& tile) const {
    const int32_t valid = tile.visible.seqlen_kv() - (tile.blocks.end - 1) * Problem::kBlockKv;
    if (valid >= Problem::kBlockKv) return;
    shared_.v_full[at_.index()].wait(at_.parity());
    char* v = smem_ + Problem::kOffsetV + at_.index() * Problem::kBytesV;
    constexpr int kChunks = kSlabBytes / 16, kStride = 128 * Problem::kConsumers;
    for (int slab = 0; slab < Problem::kHeadDimV / kBoxColumns; ++slab) {
      uint4* chunks = reinterpret_cast<uint4*>(v + slab * Problem::kBlockKv * kSlabBytes);
      for (int i = valid * kChunks + tid_; i < Problem::kBlockKv * kChunks; i += kStride) {
        chunks[i] = make_uint4(0, 0, 0, 0);
      }
    }
    fence_async_proxy();
    named_sync(1 + Problem::kConsumers, kStride);  // all consumers have cleared their share
  }

  static PA_DEVICE void pack(const ScoreTile& s, uint32_t (&p)[kSteps][4]) {
    PA_UNROLL
    for (int k = 0; k < kSteps; ++k) {
      PA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = i % 2, col = 4 * k + i / 2 * 2;
        p[k][i] = sm80::pack2<T>(s.at(row, col), s.at(row, col + 1));
      }
    }
  }

  char* smem_;
  Shared& shared_;
  int tid_;
  RingSlot<Problem::kStages> at_;
};

}  // namespace portattn::sm90
