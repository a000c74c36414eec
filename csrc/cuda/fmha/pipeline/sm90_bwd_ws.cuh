// Backward pipeline of sm_90, warp-specialised: one warp loads tiles by TMA, two the rows' lse and delta, one adds
// dq up; two consumer warpgroups of 64 keys each multiply with wgmma. A block keeps a tile of keys and walks over
// (query head, query tile):
//   s = k q^T;  p = exp2(s - lse);  dp = v do^T - delta;  ds = p dp;  dv += p do;  dk += ds q;  dq += ds^T k
// Scores are computed transposed, so that p and ds go from accumulators into dv and dk without leaving registers; only
// dq, a sum over the keys of both warpgroups, needs ds in shared memory. The next s is in flight while dq is added.
// After FlashAttention-3 (https://arxiv.org/abs/2407.08608); docs/deep_dives/sm90_backward.md draws it.
#pragma once

#include "arch/sm90/tma.cuh"
#include "arch/sm90/wgmma.cuh"
#include "attn/score.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/visibility.cuh"
#include "attn/work_order.cuh"

namespace portattn::sm90 {

template <class T, int HeadDimQk, int HeadDimV, int BlockQ>
struct BwdWsProblem {
  using Element = T;
  static constexpr int kHeadDimQk = HeadDimQk;
  static constexpr int kHeadDimV = HeadDimV;
  static constexpr int kConsumers = 2;
  static constexpr int kBlockQ = BlockQ;
  static constexpr int kBlockKv = 64 * kConsumers;
  static constexpr int kStages = 2;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  // Together as many as the block was launched with: 168 a thread.
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
  static_assert(HeadDimQk % kBoxColumns == 0 && HeadDimV % kBoxColumns == 0, "tiles are whole slabs");
  static_assert(BlockQ == 64 || BlockQ == 128, "dq is shared out by columns or by rows");

  // Warps' shares. Consumers share dq out: 64 rows each if the tile has them, else half of the columns.
  static constexpr bool kSplitsRows = BlockQ == 128;
  static constexpr int kDqColumns = kSplitsRows ? HeadDimQk : HeadDimQk / 2;
  using ScoreTile = AccTile<float, 16, BlockQ>;  // rows are keys
  using DkTile = AccTile<float, 16, HeadDimQk>;
  using DvTile = AccTile<float, 16, HeadDimV>;
  using DqTile = AccTile<float, 16, kDqColumns>;

  static constexpr int kBytesK = kBlockKv * HeadDimQk * 2;
  static constexpr int kBytesV = kBlockKv * HeadDimV * 2;
  static constexpr int kBytesQ = BlockQ * HeadDimQk * 2;
  static constexpr int kBytesDo = BlockQ * HeadDimV * 2;
  static constexpr int kBytesDs = kBlockKv * BlockQ * 2;
  static constexpr int kOffsetV = kBytesK;
  static constexpr int kOffsetQ = kOffsetV + kBytesV;
  static constexpr int kOffsetDo = kOffsetQ + kStages * kBytesQ;
  static constexpr int kOffsetDs = kOffsetDo + kStages * kBytesDo;
  static constexpr int kOffsetDq = kOffsetDs + kStages * kBytesDs;
  static constexpr int kBytesDq = 16 * kDqColumns * 4;  // of a warp
  static constexpr int kTileBytes = kOffsetDq + 4 * kConsumers * kBytesDq;
};

struct BwdWsParams {
  AttnParams attn;
  CUtensorMap q, k, v, d_o;
  WorkOrder order;
};

// One tile of keys and the queries that see it, as the producer describes it to the others.
struct BwdWsTile {
  WorkItem item;  // head: of k and v
  SeqRows q_rows, kv_rows;
  TileRows rows;
  Visibility visible;
  int32_t m_begin, m_end;                  // query tiles that see any key, of every query head
  int32_t full_rows_begin, full_rows_end;  // rows in this range see all keys
  bool exists;                             // false: there is no more work

  PA_DEVICE int32_t steps(int32_t group) const { return (m_end - m_begin) * group; }
};

constexpr int kBwdTileSlots = 3;  // the one that consumers may still store, the one being loaded, and the next

// What the warps of a block share, after the tiles in shared memory.
template <class Problem>
struct BwdWsShared {
  static constexpr int kStages = Problem::kStages;
  static constexpr int kConsumers = Problem::kConsumers;
  Barrier described, kv_full, kv_empty, full[kStages], empty[kStages], ds_full[kStages], ds_empty[kStages];
  Barrier dq_full[kConsumers], dq_empty[kConsumers];
  float lse_log2[kStages][Problem::kBlockQ];     // +inf for rows that see nothing, or are none
  float minus_delta[kStages][Problem::kBlockQ];  // 0 for rows that are none
  alignas(16) char tiles[kBwdTileSlots][sizeof(BwdWsTile)];

  PA_DEVICE BwdWsTile& tile(int slot) { return reinterpret_cast<BwdWsTile&>(tiles[slot]); }

  PA_DEVICE void init() {
    constexpr int kHelperWarps = 3;  // two that load rows, one that adds dq: they read the tile's description
    described.init(1);
    kv_full.init(1);
    kv_empty.init(kConsumers * 4 + kHelperWarps);
    for (int s = 0; s < kStages; ++s) {
      full[s].init(1 + 2 * kWarpSize);  // the thread that loads tiles, the lanes that load rows
      empty[s].init(kConsumers * 4);
      ds_full[s].init(kConsumers * 4);
      ds_empty[s].init(kConsumers * 4);
    }
    for (int c = 0; c < kConsumers; ++c) {
      dq_full[c].init(4);
      dq_empty[c].init(1);
    }
    fence_barrier_init();
  }
};

// The steps over the query tiles that see a tile of keys, query head by query head.
struct BwdWsWalk {
  int32_t head, m, left;
  PA_DEVICE BwdWsWalk(const BwdWsTile& tile, int32_t group)
      : head(tile.item.head * group), m(tile.m_begin), left(tile.steps(group)) {}
  PA_DEVICE void advance(const BwdWsTile& tile) {
    if (++m == tile.m_end) m = tile.m_begin, ++head;
    --left;
  }
};

// Loads tiles; one thread.
template <class Problem>
class BwdWsProducer {
 public:
  using Shared = BwdWsShared<Problem>;

  PA_DEVICE BwdWsProducer(const BwdWsParams& params, char* smem, Shared& shared)
      : params_(params), p_(params.attn), smem_(smem), shared_(shared) {}

  // Serves work items until there are none.
  PA_DEVICE void run(int32_t first, int32_t step) {
    if (p_.q_side.seqlen > 0) {
      prefetch_map(params_.q);
      prefetch_map(params_.d_o);
    }
    prefetch_map(params_.k);
    prefetch_map(params_.v);
    RingSlot<kBwdTileSlots> slot;
    describe(first, slot.index());
    PA_NO_UNROLL
    for (;;) {
      shared_.kv_empty.wait(slot.count % 2 ^ 1);
      shared_.described.arrive();
      const BwdWsTile& tile = *opaque(&shared_.tile(slot.index()));
      if (!tile.exists) break;
      load(tile);
      slot.advance();
      describe(step + atomicAdd(p_.next_item, 1), slot.index());
    }
    shared_.kv_full.arrive();
  }

 private:
  PA_DEVICE void describe(int32_t index, int slot) const {
    BwdWsTile* tile = opaque(&shared_.tile(slot));
    const int32_t num_steps = params_.order.steps(p_.kv_side);
    tile->exists = index < params_.order.lanes * num_steps;
    if (index >= params_.order.lanes * num_steps) return;
    tile->item = params_.order.item(p_.kv_side, index, num_steps);
    tile = opaque(tile);
    tile->q_rows = seq_rows(p_.q_side, p_.batch, tile->item.tile.seq);
    tile->kv_rows = seq_rows(p_.kv_side, p_.batch, tile->item.tile.seq);
    tile = opaque(tile);
    tile->rows = TileRows(tile->kv_rows, tile->item.tile.block, Problem::kBlockKv);
    tile->visible = Visibility(p_, tile->q_rows.len, tile->kv_rows.len);
    tile = opaque(tile);
    tile->m_begin = tile->m_end = tile->full_rows_begin = tile->full_rows_end = 0;
    if (tile->rows.valid > 0) describe_queries(tile);
  }

  static PA_DEVICE void describe_queries(BwdWsTile* tile) {
    const int32_t first = tile->rows.first, end = first + tile->rows.valid;
    const int32_t row_begin = first_row_reaching(tile->visible, first), row_end = first_row_past(tile->visible, end);
    if (row_begin >= row_end) return;
    tile->m_begin = row_begin / Problem::kBlockQ;
    tile->m_end = ceil_div(row_end, Problem::kBlockQ);
    tile = opaque(tile);
    if (tile->rows.valid < Problem::kBlockKv) return;
    tile->full_rows_begin = first_row_reaching(tile->visible, end - 1);
    tile->full_rows_end = first_row_past(tile->visible, first + 1);
  }

  PA_DEVICE void load(const BwdWsTile& tile) {
    const int32_t group = p_.num_heads_q / p_.num_heads_kv;
    if (tile.steps(group) == 0) return shared_.kv_full.arrive();
    const int32_t kv_batch = p_.kv_side.is_thd ? 0 : tile.item.tile.seq;
    const int32_t kv_row = static_cast<int32_t>(tile.kv_rows.start) + tile.rows.first;
    shared_.kv_full.arrive_expect(Problem::kBytesK + Problem::kBytesV);
    load_tile<Problem::kBlockKv, Problem::kHeadDimQk>(smem_, params_.k, shared_.kv_full, kv_row, tile.item.head,
                                                      kv_batch, kEvictFirst);
    load_tile<Problem::kBlockKv, Problem::kHeadDimV>(smem_ + Problem::kOffsetV, params_.v, shared_.kv_full, kv_row,
                                                     tile.item.head, kv_batch, kEvictFirst);
    PA_NO_UNROLL
    for (BwdWsWalk at(tile, group); at.left > 0; at.advance(tile)) load_queries(tile, at.head, at.m);
  }

  PA_DEVICE void load_queries(const BwdWsTile& tile, int32_t head, int32_t m) {
    const int32_t batch = p_.q_side.is_thd ? 0 : tile.item.tile.seq;
    const int32_t row = static_cast<int32_t>(tile.q_rows.start) + m * Problem::kBlockQ;
    const int s = at_.index();
    shared_.empty[s].wait(at_.parity() ^ 1);
    shared_.full[s].arrive_expect(Problem::kBytesQ + Problem::kBytesDo);
    load_tile<Problem::kBlockQ, Problem::kHeadDimQk>(smem_ + Problem::kOffsetQ + s * Problem::kBytesQ, params_.q,
                                                     shared_.full[s], row, head, batch, kEvictLast);
    load_tile<Problem::kBlockQ, Problem::kHeadDimV>(smem_ + Problem::kOffsetDo + s * Problem::kBytesDo, params_.d_o,
                                                    shared_.full[s], row, head, batch, kEvictLast);
    at_.advance();
  }

  template <int Rows, int Cols>
  static PA_DEVICE void load_tile(char* smem, const CUtensorMap& map, Barrier& full, int32_t row, int32_t head,
                                  int32_t batch, uint64_t policy) {
    PA_UNROLL
    for (int col = 0; col < Cols; col += kBoxColumns) {
      load_box(smem + col * 2 * Rows, map, full, col, row, head, batch, policy);
    }
  }

  const BwdWsParams& params_;
  const AttnParams& p_;
  char* smem_;
  Shared& shared_;
  RingSlot<Problem::kStages> at_;
};

// Loads lse or delta; one warp each. They lie a stride apart, which the copy engine does not gather. A step's values
// are read while the step before is still computed.
template <class Problem>
class BwdWsRowLoader {
 public:
  using Shared = BwdWsShared<Problem>;

  PA_DEVICE BwdWsRowLoader(const AttnParams& p, Shared& shared, bool loads_lse, int lane)
      : p_(p), shared_(shared), loads_lse_(loads_lse), lane_(lane) {}

  PA_DEVICE void run() {
    const int32_t group = p_.num_heads_q / p_.num_heads_kv;
    RingSlot<kBwdTileSlots> slot;
    PA_NO_UNROLL
    for (;; slot.advance()) {
      shared_.described.wait(slot.count % 2);
      const BwdWsTile& tile = *opaque(&shared_.tile(slot.index()));
      if (!tile.exists) break;
      BwdWsWalk at(tile, group);
      if (at.left > 0) read(tile, at);
      PA_NO_UNROLL
      while (at.left > 0) {
        write();
        at.advance(tile);
        if (at.left > 0) read(tile, at);
      }
      warp_sync();  // all lanes have read the tile
      if (lane_ == 0) shared_.kv_empty.arrive();
    }
  }

 private:
  static constexpr int kRows = Problem::kBlockQ / kWarpSize;  // of a lane

  PA_DEVICE void read(const BwdWsTile& tile, const BwdWsWalk& at) {
    const TensorView& view = loads_lse_ ? p_.lse : p_.delta;
    const int32_t first = at.m * Problem::kBlockQ + lane_, last = tile.q_rows.len - 1;
    const float* rows = row_pointer<const float>(view, tile.item.tile.seq, tile.q_rows, 0, at.head);
    PA_UNROLL
    for (int i = 0; i < kRows; ++i) values_[i] = rows[min_of(first + i * kWarpSize, last) * view.token_stride];
    valid_ = last - first;
  }

  PA_DEVICE void write() {
    const int s = at_.index();
    float* out = (loads_lse_ ? shared_.lse_log2[s] : shared_.minus_delta[s]) + lane_;
    shared_.empty[s].wait(at_.parity() ^ 1);
    PA_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const bool valid = i * kWarpSize <= valid_;
      const float lse =
          valid && values_[i] != neg_inf<float>() ? values_[i] * static_cast<float>(kLog2e) : -neg_inf<float>();
      out[i * kWarpSize] = loads_lse_ ? lse : valid ? -values_[i] : 0.f;
    }
    shared_.full[s].arrive();
    at_.advance();
  }

  const AttnParams& p_;
  Shared& shared_;
  bool loads_lse_;
  int lane_;
  float values_[kRows];
  int32_t valid_;  // rows of this lane end that far on
  RingSlot<Problem::kStages> at_;
};

// Adds dq, staged by consumers, to the scratch; one warp. A warp's share of dq is contiguous there.
template <class Problem>
class BwdWsDqAdder {
 public:
  using Shared = BwdWsShared<Problem>;

  PA_DEVICE BwdWsDqAdder(const AttnParams& p, const char* smem, Shared& shared, int lane)
      : p_(p), staging_(smem + Problem::kOffsetDq), shared_(shared), lane_(lane) {}

  PA_DEVICE void run() {
    const int32_t group = p_.num_heads_q / p_.num_heads_kv;
    RingSlot<kBwdTileSlots> slot;
    PA_NO_UNROLL
    for (;; slot.advance()) {
      shared_.described.wait(slot.count % 2);
      const BwdWsTile& tile = *opaque(&shared_.tile(slot.index()));
      if (!tile.exists) break;
      PA_NO_UNROLL
      for (BwdWsWalk at(tile, group); at.left > 0; at.advance(tile), ++steps_) add(tile, at);
      warp_sync();  // all lanes have read the tile
      if (lane_ == 0) shared_.kv_empty.arrive();
    }
    wait_bulk();
  }

 private:
  // Lanes 0 to 3 stand for the warps of a consumer.
  PA_DEVICE void add(const BwdWsTile& tile, const BwdWsWalk& at) const {
    const float* scratch = dq_scratch(p_, tile.item.tile.seq, tile.q_rows, at.head);
    PA_NO_UNROLL
    for (int c = 0; c < Problem::kConsumers; ++c) {
      const int warp = c * 4 + lane_;
      const int32_t row = at.m * Problem::kBlockQ + (Problem::kSplitsRows ? warp : lane_) * DqScratch::kRows;
      const int col = Problem::kSplitsRows ? 0 : c * Problem::kDqColumns;
      const int cols = min_of(p_.head_dim_qk - col, Problem::kDqColumns);
      const float* to = scratch + row / DqScratch::kRows * dq_scratch_step(p_) + col * DqScratch::kRows;
      shared_.dq_full[c].wait(steps_ % 2);
      if (lane_ < 4 && row < tile.q_rows.len && cols > 0) {
        add_bulk(const_cast<float*>(to), staging_ + warp * Problem::kBytesDq, cols * DqScratch::kRows * 4);
        wait_bulk_read();
      }
      warp_sync();  // all of the staging has been read
      if (lane_ == 0) shared_.dq_empty[c].arrive();
    }
  }

  const AttnParams& p_;
  const char* staging_;
  Shared& shared_;
  int lane_;
  uint32_t steps_ = 0;
};

template <class Problem>
class BwdWsConsumer {
 public:
  using T = typename Problem::Element;
  using ScoreTile = typename Problem::ScoreTile;
  using DkTile = typename Problem::DkTile;
  using DvTile = typename Problem::DvTile;
  using DqTile = typename Problem::DqTile;
  using Shared = BwdWsShared<Problem>;
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
    BwdWsWalk at(tile, p_.num_heads_q / p_.num_heads_kv);
    step<true>(tile, at.m, dk, dv);
    PA_NO_UNROLL
    for (at.advance(tile); at.left > 0; at.advance(tile)) step<false>(tile, at.m, dk, dv);
    DqTile dq;
    hand_dq_over();
    start_dq(dq);
    wgmma_wait<0>();
    stage_dq(dq);
    hand_dq_over();
  }

  PA_DEVICE void release(Barrier& barrier) const {
    if (tid_ % 32 == 0) barrier.arrive();
  }

 private:
  // One query tile. dq of the tile before is computed here, when the other consumer's ds has long arrived: nobody
  // waits, and consumers may be half a step apart, one in softmax, one in products. What must be fenced is fenced with
  // products in flight.
  template <bool First>
  PA_DEVICE void step(const BwdWsTile& tile, int32_t m, DkTile& dk, DvTile& dv) {
    ScoreTile s, dp;
    Operand p, ds;
    const bool full = sees_all(tile, m);
    wait_for_queries(tile, m);
    start_scores(s);
    start_dp(dp);
    if constexpr (!First) hand_dq_over();
    wgmma_wait<1>();
    pin(s.data);
    if (!full) mask(tile, m, s);
    make_probabilities(s);
    wgmma_wait<0>();
    pin(dp.data);
    make_score_gradients(s, dp);
    pack(s, p);
    add_product(dv, p, Problem::kOffsetDo + at_.index() * Problem::kBytesDo);
    pack(dp, ds);
    write_ds(ds);
    DqTile dq;
    if constexpr (!First) start_dq(dq);
    add_product(dk, ds, Problem::kOffsetQ + at_.index() * Problem::kBytesQ);
    hand_ds_over();
    wgmma_wait<0>();
    pin(dk.data);
    pin(dv.data);
    release(shared_.empty[at_.index()]);
    if constexpr (!First) stage_dq(dq);
    at_.advance();
  }

  PA_DEVICE int warp() const { return tid_ / 32; }
  PA_DEVICE int lane() const { return tid_ % 32; }

  // The tiles of the current slot have arrived.
  PA_DEVICE void wait_for_queries(const BwdWsTile& tile, int32_t m) const {
    const int s = at_.index();
    shared_.full[s].wait(at_.parity());
    const int32_t valid = tile.q_rows.len - m * Problem::kBlockQ;
    if (valid >= Problem::kBlockQ) return;
    clear_rows<Problem::kBlockQ, Problem::kHeadDimQk>(smem_ + Problem::kOffsetQ + s * Problem::kBytesQ, valid);
    clear_rows<Problem::kBlockQ, Problem::kHeadDimV>(smem_ + Problem::kOffsetDo + s * Problem::kBytesDo, valid);
    all_cleared();
  }

  // Rows past the sequence hold anything, NaN too, and 0 * NaN is NaN: they become 0.
  PA_DEVICE void clear_foreign_keys(const BwdWsTile& tile) const {
    if (tile.rows.valid >= Problem::kBlockKv) return;
    clear_rows<Problem::kBlockKv, Problem::kHeadDimQk>(smem_, tile.rows.valid);
    clear_rows<Problem::kBlockKv, Problem::kHeadDimV>(smem_ + Problem::kOffsetV, tile.rows.valid);
    all_cleared();
  }
  template <int Rows, int Cols>
  PA_DEVICE void clear_rows(char* smem, int32_t valid) const {
    constexpr int kChunks = kSlabBytes / 16;
    for (int slab = 0; slab < Cols / kBoxColumns; ++slab) {
      uint4* chunks = reinterpret_cast<uint4*>(smem + slab * Rows * kSlabBytes);
      for (int i = valid * kChunks + tid_; i < Rows * kChunks; i += 128 * Problem::kConsumers) {
        chunks[i] = make_uint4(0, 0, 0, 0);
      }
    }
  }
  static PA_DEVICE void all_cleared() {
    fence_async_proxy();
    named_sync(1, 128 * Problem::kConsumers);
  }

  // s = k q^T of the current slot, in flight.
  PA_DEVICE void start_scores(ScoreTile& s) const {
    start_transposed<Problem::kHeadDimQk>(s, 0, Problem::kOffsetQ + at_.index() * Problem::kBytesQ);
  }
  // dp = v do^T of the current slot, in flight.
  PA_DEVICE void start_dp(ScoreTile& dp) const {
    start_transposed<Problem::kHeadDimV>(dp, Problem::kOffsetV, Problem::kOffsetDo + at_.index() * Problem::kBytesDo);
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
  PA_DEVICE void start_dq(DqTile& dq) const {
    const RingSlot<Problem::kStages> slot = at_.previous();
    const int s = slot.index();
    constexpr int kSlab = Problem::kBlockKv * kSlabBytes;
    const int row_slab = Problem::kSplitsRows ? group_ : 0, col_slab = Problem::kSplitsRows ? 0 : group_;
    const uint64_t ds = descriptor_transposed(
        smem_address(smem_) + Problem::kOffsetDs + s * Problem::kBytesDs + row_slab * kSlab, kSlab);
    const uint64_t k =
        descriptor_transposed(smem_address(smem_) + col_slab * Problem::kDqColumns / kBoxColumns * kSlab, kSlab);
    shared_.ds_full[s].wait(slot.parity());
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
  PA_DEVICE void make_probabilities(ScoreTile& s) const {
    const float2* lse_log2 = reinterpret_cast<const float2*>(shared_.lse_log2[at_.index()]) + lane() % 4;
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
  PA_DEVICE void make_score_gradients(const ScoreTile& p, ScoreTile& dp) const {
    const float2* minus_delta = reinterpret_cast<const float2*>(shared_.minus_delta[at_.index()]) + lane() % 4;
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

  static PA_DEVICE void pack(const ScoreTile& s, Operand& out) {
    PA_UNROLL
    for (int k = 0; k < kQuerySteps; ++k) {
      PA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = i % 2, col = 4 * k + i / 2 * 2;
        out[k][i] = sm80::pack2<T>(s.at(row, col), s.at(row, col + 1));
      }
    }
  }

  // ds [keys, queries] of this warp to shared memory, for the products of both consumers.
  PA_DEVICE void write_ds(const Operand& ds) const {
    const int row = warp() * 16 + lane() % 16;
    const uint32_t out = smem_address(smem_) + Problem::kOffsetDs + at_.index() * Problem::kBytesDs + row * kSlabBytes;
    shared_.ds_empty[at_.index()].wait(at_.parity() ^ 1);
    PA_UNROLL
    for (int k = 0; k < kQuerySteps; ++k) {
      const int slab = k / 4, chunk = k % 4 * 2 + lane() / 16;
      store_matrices(out + slab * Problem::kBlockKv * kSlabBytes + (chunk ^ row % 8) * 16, ds[k]);
    }
  }
  PA_DEVICE void hand_ds_over() const {
    fence_async_proxy();
    warp_sync();  // all lanes have written
    release(shared_.ds_full[at_.index()]);
  }

  // This warp's share of dq to shared memory, in the order of the scratch.
  PA_DEVICE void stage_dq(DqTile& dq) {
    pin(dq.data);
    release(shared_.ds_empty[at_.previous().index()]);
    const float scale = p_.attn_scale;
    float4* staging = reinterpret_cast<float4*>(smem_ + Problem::kOffsetDq + warp() * Problem::kBytesDq) + lane();
    shared_.dq_empty[group_].wait(dq_staged_ % 2 ^ 1);
    ++dq_staged_;
    PA_UNROLL
    for (int n = 0; n < DqTile::kN / 8; ++n) {
      staging[n * 32] = make_float4(dq.at(0, 2 * n) * scale, dq.at(0, 2 * n + 1) * scale, dq.at(1, 2 * n) * scale,
                                    dq.at(1, 2 * n + 1) * scale);
    }
  }
  PA_DEVICE void hand_dq_over() {
    if (dq_handed_over_ == dq_staged_) return;
    dq_handed_over_ = dq_staged_;
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
  uint32_t dq_staged_ = 0, dq_handed_over_ = 0;
  RingSlot<Problem::kStages> at_;
};

}  // namespace portattn::sm90
