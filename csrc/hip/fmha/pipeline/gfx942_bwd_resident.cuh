// Backward pipeline of gfx942: four waves own 128 or 256 keys and walk over (query head, 32 queries).
//   s = q k^T;  p = exp2(s - lse);  dp = do v^T;  ds = p (dp - delta);  dv += p^T do;  dk += ds^T q;  dq += ds k
// One wave runs on each SIMD, with 512 registers: k, v and a part of k^T stay in them as operands, dk and dv as
// accumulators. Every lane owns a key, so p and ds go into dv and dk without leaving it; ds passes through LDS for dq
// only. Softmax and memory work are placed by hand in the shadow of the products. docs/deep_dives/gfx942_backward.md
// draws it.
#pragma once

#include "attn/score.cuh"
#include "attn/seqlen_info.cuh"
#include "attn/visibility.cuh"
#include "fmha/pipeline/gfx942_strip.cuh"

namespace portattn::gfx942 {

// A tile of keys and the queries that see it, uniform.
template <class T>
struct BwdStripTile {
  const T* k;  // first row of the tile
  const T* v;
  int32_t col0;  // first key in the sequence
  int32_t cols;  // valid keys, >= 1
  SeqRows q_rows;
  Visibility visible;
  int32_t m_begin, m_end;                  // query tiles that see any of them
  int32_t full_rows_begin, full_rows_end;  // rows in this range see all of them
  int32_t seq;
  int32_t head0, num_heads;  // query heads that share these keys
};

// Scores of 32 queries by 32 keys, a key a lane. What mask_tile() needs of a tile.
struct KeyStrip {
  struct Layout {
    static PA_HOST_DEVICE constexpr int row(int lane, int s) { return s / 4 * 8 + lane / kStrip * 4 + s % 4; }
    static PA_HOST_DEVICE constexpr int col(int lane, int /*c*/) { return lane % kStrip; }
  };
  using Value = float;
  static constexpr int kRowSlots = 16;
  static constexpr int kColSlots = 1;

  Acc16 acc;

  // An element of a vector has no address.
  struct Slot {
    Acc16& acc;
    int i;
    PA_DEVICE void operator=(float x) const { acc[i] = x; }
  };
  PA_DEVICE Slot at(int s, int /*c*/) { return {acc, s}; }
};

template <class T, int HeadDim>
class BwdResident {
 public:
  static constexpr int kWarps = 4;
  static constexpr int kBlockQ = kStrip;
  static constexpr int kStrips = 128 / HeadDim;  // of keys, a wave
  static constexpr int kBlockKv = kWarps * kStrips * kStrip;
  using GradTile = StripTile<HeadDim>;  // of dk or dv: one strip

  static constexpr int kBytesRows = kBlockQ * kRowPitch<HeadDim>;
  static constexpr int kBytesPanels = kBlockQ * HeadDim * 2;
  static constexpr int kOffsetDo = kBytesRows;
  static constexpr int kOffsetPanels = 2 * kBytesRows;  // q and do, of two steps
  static constexpr int kOffsetDs = kOffsetPanels + 4 * kBytesPanels;
  static constexpr int kOffsetStats = kOffsetDs + kBlockQ * kBlockKv * 2;
  static constexpr int kBytesStats = kWarps * 64 * 4;  // of a step
  static constexpr int kSmemBytes = kOffsetStats + 2 * kBytesStats;
  static_assert(kBlockKv * HeadDim * 2 <= kSmemBytes, "k is transposed there first");

  PA_DEVICE BwdResident(const AttnParams& p, const BwdStripTile<T>& tile, char* smem, int tid)
      : tile_(tile),
        smem_(smem),
        tid_(tid),
        lane_(tid % 64),
        warp_(uniform(tid / 64)),
        c_(lane_ % kStrip),
        h_(lane_ / kStrip),
        exp_scale_(p.attn_scale * static_cast<float>(kLog2e)),
        stager_(tid % kStagers) {
    PA_UNROLL
    for (int i = 0; i < kTensors; ++i)
      rows_[i] = brings_do(i) ? source<T>(p.d_o, p.head_dim_v) : source<T>(p.q, p.head_dim_qk);
    stats_ = warp_ == 0 ? source<float>(p.lse) : source<float>(p.delta);
    dq_ = make_dq_place(p);
    load_resident(p);
  }

  // Leaves dk (to be scaled) and dv of this wave's strips, and the block's LDS free to use.
  PA_DEVICE void run(GradTile (&dk)[kStrips], GradTile (&dv)[kStrips]) {
    PA_UNROLL
    for (int b = 0; b < kStrips; ++b) dk[b].fill(0.f), dv[b].fill(0.f);
    const int32_t steps = tile_.num_heads * (tile_.m_end - tile_.m_begin);
    if (steps > 0) walk(steps, dk, dv);
    lds_sync();  // all are done with the tiles
  }

 private:
  static constexpr int kChunks = HeadDim / 8;              // of a row
  static constexpr int kPairs = HeadDim / 16;              // pairs of steps in q k^T
  static constexpr int kBlocks = HeadDim / kStrip;         // 32 x 32 blocks of a strip of dk
  static constexpr int kSteps = 16;                        // products of a kind and wave in an iteration
  static constexpr int kTensors = 2 / kStrips;             // of q and do, that a thread brings
  static constexpr int kStagers = kBlockQ * HeadDim / 16;  // threads that bring one of them: two rows, eight columns
  static constexpr int kDqPairs = 8;                       // pairs of steps in ds k: 128 keys

  static constexpr int kAhead = 2;  // operands are read that many before their use
  static constexpr int kLag = 2;    // steps by which products follow whose operands come late

  // A step of the walk. Before the first step stands head -1, past the last head num_heads.
  struct Place {
    int32_t head;
    int32_t m;  // query tile
  };

  // Rows of the sequence's queries, from head0 on.
  struct Source {
    const char* first;
    int64_t head_bytes;
    int32_t row_bytes;  // from row to row
    int32_t width;      // bytes of a row
    int32_t cols;
  };
  template <class V>
  PA_DEVICE Source source(const TensorView& view, int32_t cols = 1) const {
    constexpr int kSize = sizeof(V);
    const V* first = row_pointer<const V>(view, tile_.seq, tile_.q_rows, 0, tile_.head0);
    return {reinterpret_cast<const char*>(first), view.head_stride * kSize,
            static_cast<int32_t>(view.token_stride * kSize), cols * kSize, cols};
  }
  PA_DEVICE RowsInMemory rows_at(const Source& from, Place at) const {
    const int32_t row0 = at.m * kBlockQ;
    const int32_t rows = clamp(tile_.q_rows.len - row0, 0, kBlockQ);
    return RowsInMemory(from.first + at.head * from.head_bytes + static_cast<int64_t>(row0) * from.row_bytes,
                        from.row_bytes, at.head < tile_.num_heads ? rows : 0, from.width);
  }

  // Where this lane adds its share of dq: row c of a step, in this wave's columns. What is not in the scratch, because
  // the row's group or the column does not exist, the hardware leaves out.
  struct DqPlace {
    char* first;          // of head0; null: dq is not wanted here
    int32_t head_bytes;   // from head to head
    int32_t group_bytes;  // from group of rows to group, over all heads
    uint32_t offset;      // of the lane
    int32_t cols;         // valid ones of this wave's
    float scale;
  };

  // ---- operands that stay -------------------------------------------------------------------------------------

  PA_DEVICE void load_resident(const AttnParams& p) {
    const int first = warp_ * kStrips * kStrip;
    load_strips(k_, tile_.k, p.k, p.head_dim_qk, first);
    load_strips(v_, tile_.v, p.v, p.head_dim_v, first);
    transpose_k(p);
    lds_sync();  // k^T lies in panels of eight keys
    PA_UNROLL
    for (int i = 0; i < kDqPairs; ++i) {
      const int panel = dq_part() * 16 + 2 * i + h_, col = dq_block() * kStrip + dq_col(c_);
      kt_[i] = *reinterpret_cast<const Bits4*>(smem_ + (panel * HeadDim + panel_place(col)) * 16);
    }
    lds_sync();  // all have read it
  }

  PA_DEVICE void load_strips(Bits4 (&out)[kStrips][kPairs], const T* base, const TensorView& view, int32_t cols,
                             int first) const {
    const uint32_t row_bytes = static_cast<uint32_t>(view.token_stride * 2);
    const RowsInMemory rows(base, row_bytes, tile_.cols, cols * 2);
    PA_UNROLL
    for (int b = 0; b < kStrips; ++b) {
      PA_UNROLL
      for (int i = 0; i < kPairs; ++i) {
        out[b][i] = rows.chunk(chunk_offset(first + b * kStrip + c_, 2 * i + h_, row_bytes, cols));
      }
    }
  }

  // A thread takes two keys and eight columns at a time.
  PA_DEVICE void transpose_k(const AttnParams& p) const {
    const uint32_t row_bytes = static_cast<uint32_t>(p.k.token_stride * 2);
    const RowsInMemory rows(tile_.k, row_bytes, tile_.cols, p.head_dim_qk * 2);
    constexpr int kThreads = kWarps * 64;
    PA_UNROLL
    for (int first = 0; first < kBlockKv / 2 * kChunks; first += kThreads) {
      const Stager at(first + tid_);
      const int row = at.panel * 8 + at.pair * 2;
      const Bits4 even = rows.chunk(chunk_offset(row, at.chunk, row_bytes, p.head_dim_qk));
      const Bits4 odd = rows.chunk(chunk_offset(row + 1, at.chunk, row_bytes, p.head_dim_qk));
      PA_UNROLL
      for (int e = 0; e < 8; ++e) {
        const int cell = at.panel * HeadDim + panel_place(at.chunk * 8 + e);
        *reinterpret_cast<uint32_t*>(smem_ + cell * 16 + at.pair * 4) = zip_rows(even, odd, e);
      }
    }
  }

  // This wave's share of dq: 32 columns, 128 keys.
  PA_DEVICE int dq_block() const { return warp_ % kBlocks; }
  PA_DEVICE int dq_part() const { return warp_ / kBlocks; }
  // The column that lane c gives to k^T: register 4 m + e of lane half h then holds column 8 m + 2 e + h, so that the
  // halves add to neighbours in the scratch.
  static PA_HOST_DEVICE constexpr int dq_col(int c) { return c / 8 * 8 + c % 4 * 2 + c / 4 % 2; }

  // ---- rows and panels of a step ------------------------------------------------------------------------------

  // What a thread brings: rows 2 `pair` and + 1 of a panel, one chunk of each. Eight lanes take a row's 128 bytes, 32
  // lanes a panel.
  struct Stager {
    int chunk, pair, panel;
    PA_DEVICE explicit Stager(int i)
        : chunk(i / 32 % (HeadDim / 64) * 8 + i % 8), pair(i / 8 % 4), panel(i / 32 / (HeadDim / 64)) {}
    PA_DEVICE int row() const { return panel_row(panel, 2 * pair); }
  };
  // Whether the i-th tensor of this thread is do.
  PA_DEVICE bool brings_do(int i) const { return kTensors == 2 ? i == 1 : warp_ >= kWarps / 2; }

  // Asks for the i-th part of the step at load_: a tensor's chunks, or last its lse (the first wave) or delta (the
  // second).
  PA_DEVICE void load_part(int i) {
    if (i == kTensors) {
      const bool wanted = warp_ < 2 && lane_ < kBlockQ;
      stat_ = rows_at(stats_, load_).value(wanted ? lane_ * stats_.row_bytes : RowsInMemory::kNowhere);
      return;
    }
    const Source& from = rows_[i];
    const RowsInMemory rows = rows_at(from, load_);
    even_[i] = rows.chunk(chunk_offset(stager_.row(), stager_.chunk, from.row_bytes, from.cols));
    odd_[i] = rows.chunk(chunk_offset(stager_.row() + 1, stager_.chunk, from.row_bytes, from.cols));
  }

  // A row that saw nothing (lse = -inf) gets +inf: its probabilities are 0.
  PA_DEVICE void write_rows(int parity) const {
    PA_UNROLL
    for (int i = 0; i < kTensors; ++i) {
      char* to = smem_ + (brings_do(i) ? kOffsetDo : 0) + stager_.row() * kRowPitch<HeadDim> + stager_.chunk * 16;
      *reinterpret_cast<Bits4*>(to) = even_[i];
      *reinterpret_cast<Bits4*>(to + kRowPitch<HeadDim>) = odd_[i];
    }
    const float lse_log2 = stat_ == neg_inf<float>() ? -neg_inf<float>() : stat_ * static_cast<float>(kLog2e);
    *reinterpret_cast<float*>(smem_ + kOffsetStats + parity * kBytesStats + tid_ * 4) = warp_ == 0 ? lse_log2 : -stat_;
  }

  PA_DEVICE void write_panel(int parity, int n) const {
    const int i = n / 8, e = n % 8;
    const int cell = stager_.panel * HeadDim + panel_place(stager_.chunk * 8 + e);
    char* to = smem_ + kOffsetPanels + (2 * parity + (brings_do(i) ? 1 : 0)) * kBytesPanels;
    *reinterpret_cast<uint32_t*>(to + cell * 16 + stager_.pair * 4) = zip_rows(even_[i], odd_[i], e);
  }

  PA_DEVICE Bits4 read_row(int offset, int pair) const {
    return *reinterpret_cast<const Bits4*>(smem_ + offset + c_ * kRowPitch<HeadDim> + h_ * 16 + pair * 32);
  }
  PA_DEVICE Bits4 read_panel(int parity, int tensor, int pair, int block) const {
    const int cell = h_ * HeadDim + panel_place(block % 2 * kStrip + c_) + (2 * pair * HeadDim + block / 2 * 64);
    return *reinterpret_cast<const Bits4*>(smem_ + kOffsetPanels + (2 * parity + tensor) * kBytesPanels + cell * 16);
  }
  // lse (0) or -delta (1) of rows 8 m + 4 h and the three that follow.
  PA_DEVICE Float4 read_stats(int parity, int which, int m) const {
    return *reinterpret_cast<const Float4*>(smem_ + kOffsetStats + parity * kBytesStats + which * 256 + m * 32 +
                                            h_ * 16);
  }

  // ---- ds through LDS: panels of eight keys, a cell for each query ---------------------------------------------

  static PA_HOST_DEVICE constexpr int ds_cell(int panel, int q) { return panel * kBlockQ + (q ^ (panel % 4 * 2)); }

  // The i-th pair of queries of this lane.
  PA_DEVICE void write_ds(int i) const {
    const int b = i / 8, q = i % 8 / 2 * 8 + h_ * 4 + i % 2 * 2 + lane_ % 2, panel = (warp_ * kStrips + b) * 4 + c_ / 8;
    *reinterpret_cast<uint32_t*>(smem_ + kOffsetDs + ds_cell(panel, q) * 16 + c_ / 2 % 4 * 4) =
        zip_lanes(ds_[b * 2 + i % 8 / 4][i % 4], lane_);
  }
  PA_DEVICE Bits4 read_ds(int pair) const {
    const int panel = dq_part() * 16 + 2 * pair + h_;
    return *reinterpret_cast<const Bits4*>(smem_ + kOffsetDs + ds_cell(panel, c_) * 16);
  }

  // ---- dq -----------------------------------------------------------------------------------------------------

  PA_DEVICE DqPlace make_dq_place(const AttnParams& p) const {
    DqPlace place{};
    const int32_t col = dq_block() * kStrip + h_, group = c_ / DqScratch::kRows;
    if (p.dq_accum.data != nullptr) {
      place.first = reinterpret_cast<char*>(dq_scratch(p, tile_.seq, tile_.q_rows, tile_.head0));
    }
    place.head_bytes = DqScratch::kRows * p.head_dim_qk * 4;
    place.group_bytes = static_cast<int32_t>(dq_scratch_step(p) * 4);
    place.offset = group * place.group_bytes + ScratchLayout::offset(c_ % DqScratch::kRows, col) * 4;
    place.cols = p.head_dim_qk - dq_block() * kStrip;
    place.scale = p.attn_scale;
    return place;
  }

  // The scratch of the step at sent_.
  PA_DEVICE RowsInMemory dq_scratch_rows() const {
    const int32_t groups = ceil_div(tile_.q_rows.len - sent_.m * kBlockQ, DqScratch::kRows);
    const int64_t from = sent_.head * static_cast<int64_t>(dq_.head_bytes) +
                         sent_.m * (kBlockQ / DqScratch::kRows) * static_cast<int64_t>(dq_.group_bytes);
    return RowsInMemory(dq_.first + from, 0, dq_.first != nullptr && sent_.head >= 0 ? 1 : 0,
                        (groups > 1 ? dq_.group_bytes : 0) + dq_.head_bytes);
  }
  // The i-th register.
  PA_DEVICE void add_dq(const RowsInMemory& scratch, int i) const {
    const int col = i / 4 * 8 + i % 4 * 2;
    scratch.add(i / 4 * 8 < dq_.cols ? dq_.offset : RowsInMemory::kNowhere, ScratchLayout::offset(0, col) * 4,
                dq_acc_[i] * dq_.scale);
  }

  // ---- the walk -----------------------------------------------------------------------------------------------

  PA_DEVICE void walk(int32_t steps, GradTile (&dk)[kStrips], GradTile (&dv)[kStrips]) {
    load_ = Place{0, tile_.m_begin};
    multiplied_ = Place{-1, 0};
    PA_UNROLL
    for (int i = 0; i <= kTensors; ++i) load_part(i);
    write_rows(0);
    lds_sync();  // rows of the first step have landed
    score_step<false>(0);
    lds_sync();  // all are done with them
    mask_scores();
    PA_UNROLL
    for (int j = 0; j < kSteps; ++j) softmax_part(j);
    write_rows(1);
    PA_NO_UNROLL
    for (int32_t i = 0; i < steps; ++i) {
      const int parity = (i + 1) % 2;
      lds_sync();  // rows of step i + 1 have landed; all are done with panels and ds of step i - 1
      sent_ = multiplied_;
      multiplied_ = scored_;
      score_step<true>(parity);
      lds_sync();  // panels and ds of step i have landed; all are done with rows of step i + 1
      grad_step(parity, dk, dv);
    }
    sent_ = multiplied_;
    const RowsInMemory scratch = dq_scratch_rows();
    PA_UNROLL
    for (int i = 0; i < 16; ++i) add_dq(scratch, i);
  }

  // Iteration i has two phases; `parity` is that of step i + 1.
  //
  // s and dp of step i + 1, from rows. In their shadow its panels and ds of step i land, rows of step i + 2 are asked
  // for, and dq of step i - 1 goes out.
  template <bool HasPast>
  PA_DEVICE void score_step(int parity) {
    Bits4 q[kPairs], d_o[kPairs];
    PA_UNROLL
    for (int i = 0; i < kAhead; ++i) q[i] = read_row(0, i);
    PA_UNROLL
    for (int i = 0; i < kAhead; ++i) d_o[i] = read_row(kOffsetDo, i);
    Float4 minus_delta[4];
    PA_UNROLL
    for (int m = 0; m < 4; ++m) minus_delta[m] = read_stats(parity, 1, m);
    pin();
    PA_UNROLL
    for (int i = 0; HasPast && i < 8 * kStrips; ++i) write_ds(i);
    PA_UNROLL
    for (int b = 0; b < kStrips; ++b) s_[b].acc = Acc16(0.f);
    const RowsInMemory scratch = dq_scratch_rows();
    pin();
    // dp follows s by two steps: what it needs is read last.
    PA_UNROLL
    for (int j = 0; j < kSteps + kLag; ++j) {
      const int i = j / (2 * kStrips), half = j / kStrips % 2, b = j % kStrips;
      if (j < kSteps) {
        if (j % (2 * kStrips) == 0 && i + kAhead < kPairs) {
          q[i + kAhead] = read_row(0, i + kAhead), d_o[i + kAhead] = read_row(kOffsetDo, i + kAhead);
        }
        multiply_step<T>(q[i], k_[b][i], half, s_[b].acc);
        score_shadow<HasPast>(parity, 2 * j, scratch);
        if (j < kLag) score_shadow<HasPast>(parity, 2 * j + 1, scratch);
        pin();
      }
      if (j < kLag) continue;
      if (j == kLag) {
        PA_UNROLL
        for (int n = 0; n < 16 * kStrips; ++n) dp_[n / 16][n % 16] = minus_delta[n % 16 / 4][n % 4];
      }
      const int late = j - kLag, late_i = late / (2 * kStrips), late_half = late / kStrips % 2, late_b = late % kStrips;
      multiply_step<T>(d_o[late_i], v_[late_b][late_i], late_half, dp_[late_b]);
      if (j < kSteps) score_shadow<HasPast>(parity, 2 * j + 1, scratch);
      pin();
    }
  }

  // What happens after the n-th of 32 products.
  template <bool HasPast>
  PA_DEVICE void score_shadow(int parity, int n, const RowsInMemory& scratch) {
    constexpr int kLoads = 16;  // the panels, which come from the same registers, are written before
    if (n < 8 * kTensors) write_panel(parity, n);
    if (n == kLoads) {
      scored_ = load_;
      if (++load_.m == tile_.m_end) load_ = Place{load_.head + 1, tile_.m_begin};
    }
    if (n >= kLoads && n % 2 == 0 && (n - kLoads) / 2 <= kTensors) load_part((n - kLoads) / 2);
    if (HasPast && n >= kLoads) add_dq(scratch, n - kLoads);
    if (n >= 22 && n < 26) lse_log2_[n - 22] = read_stats(parity, 0, n - 22);
    if (HasPast && n >= 26 && n < 26 + kAhead) read_panels(parity ^ 1, n - 26);
  }

  // The i-th operands of dv and dk.
  PA_DEVICE void read_panels(int parity, int i) {
    d_o_[i] = read_panel(parity, 1, i / kBlocks, i % kBlocks);
    q_[i] = read_panel(parity, 0, i / kBlocks, i % kBlocks);
  }

  // dv, dk and dq of step i. In their shadow p and ds of step i + 1 are made, and rows of step i + 2 land.
  PA_DEVICE void grad_step(int parity, GradTile (&dk)[kStrips], GradTile (&dv)[kStrips]) {
    Bits4 ds_rows[kDqPairs];
    PA_UNROLL
    for (int i = 0; i < kAhead; ++i) ds_rows[i] = read_ds(i);
    Bits4 p[kStrips * 2], ds[kStrips * 2];  // of step i; p_ and ds_ become those of step i + 1
    PA_UNROLL
    for (int m = 0; m < kStrips * 2; ++m) p[m] = p_[m], ds[m] = ds_[m];
    mask_scores();
    dq_acc_ = Acc16(0.f);
    pin();
    // dq follows by two steps: ds has only just landed.
    PA_UNROLL
    for (int j = 0; j < kSteps + kLag; ++j) {
      if (j < kSteps) {
        const int i = j / (2 * kStrips), half = j / kStrips % 2, b = j % kStrips;
        const int block = i % kBlocks, rows = b * 2 + i / kBlocks;
        if (j % (2 * kStrips) == 0 && i + kAhead < 2 * kBlocks) read_panels(parity ^ 1, i + kAhead);
        if (j % 2 == 0 && j / 2 + kAhead < kDqPairs) ds_rows[j / 2 + kAhead] = read_ds(j / 2 + kAhead);
        multiply_step<T>(d_o_[i], p[rows], half, dv[b].block(block));
        pin();
        softmax_part(j);
        multiply_step<T>(q_[i], ds[rows], half, dk[b].block(block));
        pin();
      }
      if (j < kLag) continue;
      const int late = j - kLag;
      multiply_step<T>(kt_[late / 2], ds_rows[late / 2], late % 2, dq_acc_);
      if (j == kSteps - 2) write_rows(parity ^ 1);
      pin();
    }
    settle(p_);
    settle(ds_);
  }

  // ---- p and ds of the scored step ----------------------------------------------------------------------------

  PA_DEVICE void mask_scores() {
    const int32_t row0 = scored_.m * kBlockQ;
    if (row0 >= tile_.full_rows_begin && row0 + kBlockQ <= tile_.full_rows_end) return;
    PA_UNROLL
    for (int b = 0; b < kStrips; ++b) {
      // Opaque, so that the rows' bounds are not kept in registers from step to step.
      mask_tile(s_[b], opaque(lane_), tile_.visible, row0, tile_.col0 + (warp_ * kStrips + b) * kStrip);
    }
  }

  // The j-th of kSteps parts.
  PA_DEVICE void softmax_part(int j) {
    PA_UNROLL
    for (int n = j * kStrips; n < (j + 1) * kStrips; ++n) {
      const int b = n / 16, i = n % 16;
      const float p = fast_exp2(s_[b].acc[i] * exp_scale_ - lse_log2_[i / 4][i % 4]);
      s_[b].acc[i] = p;
      dp_[b][i] *= p;
      if (i % 2 == 0) continue;
      const int at = b * 2 + i / 8;
      p_[at][i % 8 / 2] = pack_pair<T>(s_[b].acc[i - 1], p);
      ds_[at][i % 8 / 2] = pack_pair<T>(dp_[b][i - 1], dp_[b][i]);
    }
  }

  const BwdStripTile<T> tile_;
  char* const smem_;
  const int tid_, lane_, warp_, c_, h_;
  const float exp_scale_;
  const Stager stager_;
  Source rows_[kTensors], stats_;
  DqPlace dq_;
  Place load_;                                                    // of the chunks on their way
  Place scored_;                                                  // of s and dp
  Place multiplied_;                                              // of the gradients in the making
  Place sent_;                                                    // of dq_acc_
  Bits4 k_[kStrips][kPairs], v_[kStrips][kPairs], kt_[kDqPairs];  // operands that stay
  Bits4 even_[kTensors], odd_[kTensors];                          // chunks on their way to LDS
  float stat_;
  Bits4 q_[2 * kBlocks], d_o_[2 * kBlocks];  // operands of dk and dv
  KeyStrip s_[kStrips];
  Acc16 dp_[kStrips], dq_acc_;
  Float4 lse_log2_[4];
  Bits4 p_[kStrips * 2], ds_[kStrips * 2];  // operands
};

}  // namespace portattn::gfx942
