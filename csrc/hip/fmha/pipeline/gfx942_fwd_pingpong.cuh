// Forward pipeline of gfx942: 256 queries, eight waves in two groups of four that take turns on the matrix cores.
//   s [256, kBlockKv] = q k^T;  p = online softmax(mask(s));  o [256, d] += p v
// On each SIMD one wave of either group runs. While one group multiplies (s of the next keys, o of these), the other
// does its softmax; a barrier swaps them. Both products run transposed, so that a lane owns a query and p goes from the
// softmax into the second product without leaving it. docs/deep_dives/gfx942_forward.md draws it.
#pragma once

#include "attn/score.cuh"
#include "attn/softmax.cuh"
#include "attn/visibility.cuh"
#include "fmha/pipeline/gfx942_strip.cuh"

namespace portattn::gfx942 {

// A tile of 256 queries, uniform.
template <class T>
struct FwdStripTile {
  const T* q;  // first row of the tile
  const T* k;  // first row of the sequence
  const T* v;
  int32_t row0;  // first query row in the sequence
  int32_t rows;  // valid query rows, >= 1
  BlockRange blocks;
  Visibility visible;
};

template <class T, int HeadDim>
class FwdPingpong {
 public:
  static constexpr int kWarps = 8;
  static constexpr int kBlockQ = kWarps * kStrip;
  static constexpr int kBlockKv = 4096 / HeadDim;  // 16 bytes of k and of v for each of 512 threads
  using ScoreTile = StripTile<kBlockKv>;
  using OutTile = StripTile<HeadDim>;

  static constexpr int kBytesK = kBlockKv * kRowPitch<HeadDim>;
  static constexpr int kStageBytes = kBytesK + kBlockKv * HeadDim * 2;
  static constexpr int kStages = 3;
  static constexpr int kSmemBytes = kStages * kStageBytes;

  PA_DEVICE FwdPingpong(const AttnParams& p, const FwdStripTile<T>& tile, char* smem, int tid)
      : tile_(tile),
        lane_(tid % 64),
        warp_(uniform(tid / 64)),
        k_bytes_(static_cast<uint32_t>(p.k.token_stride * 2)),
        v_bytes_(static_cast<uint32_t>(p.v.token_stride * 2)),
        k_width_(p.head_dim_qk * 2),
        v_width_(p.head_dim_v * 2) {
    const int c = lane_ % kStrip, h = lane_ / kStrip;
    k_read_ = smem + c * kRowPitch<HeadDim> + h * 16;
    v_read_ = smem + kBytesK + (h * HeadDim + place(c)) * 16;
    const int k_row = tid / kChunks, k_chunk = tid % kChunks;
    k_offset_ = chunk_offset(k_row, k_chunk, k_bytes_, p.head_dim_qk);
    k_write_ = smem + k_row * kRowPitch<HeadDim> + k_chunk * 16;
    // A wave takes a panel's eight rows and 64 columns; neighbouring lanes neighbouring rows.
    const int panel = warp_ / (HeadDim / 64), element = lane_ % 8, v_chunk = warp_ % (HeadDim / 64) * 8 + lane_ / 8;
    v_offset_ = chunk_offset(panel_row(panel, element), v_chunk, v_bytes_, p.head_dim_v);
    v_write_ = smem + kBytesK + (panel * HeadDim + v_chunk * 8) * 16 + element / 2 * 4;
    v_place_ = place(v_chunk * 8 + lane_ % 2) % 8;
    load_q(p);
  }

  // Accumulates o; leaves the block's LDS free to use.
  template <class Softmax>
  PA_DEVICE void run(Softmax& softmax, OutTile& o) {
    o.fill(0.f);
    const int32_t blocks = tile_.blocks.end - tile_.blocks.begin;
    if (blocks <= 0) return;
    fill_stages();
    lds_sync();  // the first tiles have landed
    PA_UNROLL
    for (int i = 0; i < kOperandsK; ++i) read_k(0, i);
    pin();
    first_scores();
    PA_UNROLL
    for (int i = 0; i < kOperandsK; ++i) read_k(1, i);
    PA_UNROLL
    for (int d = 0; d < kOutBlocks; ++d) read_v(0, d);
    // From here on the second group is one phase behind the first.
    if (warp_ >= kWarps / 2) lds_sync();
    int stage = 0;
    PA_NO_UNROLL
    for (int32_t i = 0; i < blocks; ++i) {
      make_probabilities(i, stage, softmax, o);
      lds_sync();  // this group's turn on the matrix cores: the other has left them
      __builtin_amdgcn_s_setprio(1);
      multiply(i, stage, o);
      __builtin_amdgcn_s_setprio(0);
      lds_sync();  // the other's turn
      stage = next(stage);
    }
    if (warp_ < kWarps / 2) lds_sync();
    lds_sync();  // all are done with the tiles
  }

 private:
  static constexpr int kChunks = HeadDim / 8;                       // of a row
  static constexpr int kScoreBlocks = kBlockKv / kStrip;            // 32 x 32 blocks of s
  static constexpr int kOutBlocks = HeadDim / kStrip;               // and of o
  static constexpr int kPairs = HeadDim / 16;                       // pairs of steps in q k^T
  static constexpr int kPanels = kBlockKv / 16;                     // pairs of panels: pairs of steps in p v
  static constexpr int kSteps = kBlockKv * HeadDim / (kStrip * 8);  // products of either kind for a tile
  static constexpr int kOperandsK = kScoreBlocks * kPairs;          // operands of two steps in a tile
  static constexpr int kOperandsV = kPanels * kOutBlocks;
  static constexpr int kLateK = 2;  // of k's, read after the turn: in it they would delay the barrier

  // Writers are here neighbouring lanes with neighbouring columns, and every eighth column: reversing the bits keeps
  // them and the readers free of bank conflicts.
  static PA_HOST_DEVICE constexpr int place(int col) { return col ^ ((col >> 3 & 1) << 2 | (col >> 4 & 1) << 1); }

  PA_DEVICE void load_q(const AttnParams& p) {
    const int c = lane_ % kStrip, h = lane_ / kStrip, row0 = warp_ * kStrip;
    const uint32_t row_bytes = static_cast<uint32_t>(p.q.token_stride * 2);
    const RowsInMemory rows(tile_.q, row_bytes, tile_.rows, p.head_dim_qk * 2);
    PA_UNROLL
    for (int i = 0; i < kPairs; ++i) q_[i] = rows.chunk(chunk_offset(row0 + c, 2 * i + h, row_bytes, p.head_dim_qk));
  }

  // The i-th tile of keys from the end; past the last there are no rows.
  PA_DEVICE RowsInMemory rows_of(const T* base, uint32_t row_bytes, uint32_t width, int32_t i) const {
    const int32_t block = tile_.blocks.end - 1 - i, first = block * kBlockKv;
    const int32_t rows = clamp(tile_.visible.seqlen_kv() - first, 0, kBlockKv);
    return RowsInMemory(reinterpret_cast<const char*>(base) + static_cast<int64_t>(first) * row_bytes, row_bytes,
                        block >= tile_.blocks.begin ? rows : 0, width);
  }
  PA_DEVICE void load_k(int32_t i) { k_flight_ = rows_of(tile_.k, k_bytes_, k_width_, i).chunk(k_offset_); }
  PA_DEVICE void load_v(int32_t i) { v_flight_ = rows_of(tile_.v, v_bytes_, v_width_, i).chunk(v_offset_); }

  PA_DEVICE void write_k(int stage) const { *reinterpret_cast<Bits4*>(k_write_ + stage * kStageBytes) = k_flight_; }
  // Two of the chunk's eight columns, one of them this lane's.
  PA_DEVICE void write_v(int stage, int pair) const {
    const int at = stage * kStageBytes + (v_place_ ^ (2 * pair)) * 16;
    *reinterpret_cast<uint32_t*>(v_write_ + at) = zip_lanes(v_flight_[pair], lane_);
  }

  // Operands of two steps, in the order of their use.
  PA_DEVICE void read_k(int stage, int i) {
    const int at = stage * kStageBytes + i / kPairs * kStrip * kRowPitch<HeadDim> + i % kPairs * 32;
    k_[i / kPairs][i % kPairs] = *reinterpret_cast<const Bits4*>(k_read_ + at);
  }
  PA_DEVICE void read_v(int stage, int i) {
    const int at = stage * kStageBytes + (i / kOutBlocks * 2 * HeadDim + i % kOutBlocks * kStrip) * 16;
    v_[i / kOutBlocks][i % kOutBlocks] = *reinterpret_cast<const Bits4*>(v_read_ + at);
  }

  static PA_DEVICE int next(int stage) { return stage == kStages - 1 ? 0 : stage + 1; }

  // k of three tiles and v of two land in LDS, the next of each is on its way. All are asked for before the first
  // lands.
  PA_DEVICE void fill_stages() {
    Bits4 k[kStages + 1], v[kStages];
    PA_UNROLL
    for (int i = 0; i <= kStages; ++i) {
      load_k(i);
      k[i] = k_flight_;
      if (i == kStages) break;
      load_v(i);
      v[i] = v_flight_;
    }
    PA_UNROLL
    for (int i = 0; i < kStages; ++i) {
      k_flight_ = k[i];
      write_k(i);
      v_flight_ = v[i];
      PA_UNROLL
      for (int pair = 0; pair < 4 && i < kStages - 1; ++pair) write_v(i, pair);
    }
    k_flight_ = k[kStages];
  }

  PA_DEVICE void first_scores() {
    s_.fill(0.f);
    PA_UNROLL
    for (int step = 0; step < kSteps; ++step) score_step(step);
  }

  PA_DEVICE void score_step(int step) {
    const int b = step / (2 * kPairs), i = step % (2 * kPairs);
    multiply_step<T>(k_[b][i / 2], q_[i / 2], i % 2, s_.block(b));
  }
  PA_DEVICE void out_step(int step, OutTile& o) const {
    const int d = step % kOutBlocks, i = step / kOutBlocks;
    multiply_step<T>(v_[i / 2][d], p_[i / 2], i % 2, o.block(d));
  }

  template <class Softmax>
  PA_DEVICE void make_probabilities(int32_t i, int stage, Softmax& softmax, OutTile& o) {
    PA_UNROLL
    for (int late = kOperandsK - kLateK; late < kOperandsK; ++late) read_k(next(stage), late);
    const int32_t block = tile_.blocks.end - 1 - i;
    if (!tile_.blocks.is_full(block)) {
      mask_tile(s_, lane_, tile_.visible, tile_.row0 + warp_ * kStrip, block * kBlockKv);
    }
    softmax.update(s_, o);
    PA_UNROLL
    for (int i = 0; i < kBlockKv / 4; ++i) p_[i / 4][i % 4] = pack_pair<T>(s_.data[2 * i], s_.data[2 * i + 1]);
    settle(p_);
    settle(softmax);
  }

  // s of tile i + 1 and o of tile i, in turns, so that no product waits for the one before. In their shadow the tiles
  // that are on their way land (k of tile i + 3, v of tile i + 2), the next ones are asked for, and operands that have
  // been used make room for those of the next turn (k of tile i + 2, v of tile i + 1).
  PA_DEVICE void multiply(int32_t i, int stage, OutTile& o) {
    const int stage1 = next(stage), stage2 = next(stage1);  // of tiles i + 1 and i + 2
    s_.fill(0.f);
    PA_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      score_step(step);
      if (step == 1) write_k(stage);
      if (step == 2) load_k(i + kStages + 1);
      if (step >= 4 && step < 8) write_v(stage2, step - 4);
      if (step == 8) load_v(i + kStages);
      if (step % 2 == 1 && step / 2 < kOperandsK - kLateK) read_k(stage2, step / 2);
      pin();
      out_step(step, o);
      const int ahead = step + kOutBlocks, again = step - 2 * kOutBlocks;
      if (ahead < kOperandsV) read_v(stage, ahead);
      if (again >= 0 && again < kOutBlocks) read_v(stage1, again);
      pin();
    }
  }

  const FwdStripTile<T> tile_;
  const int lane_, warp_;
  const uint32_t k_bytes_, v_bytes_;  // from row to row
  const uint32_t k_width_, v_width_;  // bytes of a row
  const char *k_read_, *v_read_;
  char *k_write_, *v_write_;
  uint32_t k_offset_, v_offset_;
  int v_place_;
  Bits4 q_[kPairs];
  Bits4 k_[kScoreBlocks][kPairs], v_[kPanels][kOutBlocks];  // operands of one tile
  Bits4 k_flight_, v_flight_;                               // chunks on their way to LDS
  ScoreTile s_;
  Bits4 p_[kPanels];
};

}  // namespace portattn::gfx942
