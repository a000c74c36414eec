// acc [64, 64] += A [64, depth] . B [64, depth]^T for operands in global memory and any depth: the product that scores
// and their gradients are made of. Both operands are staged through shared memory in pieces of 128 bytes of each row,
// so that shared memory does not grow with the head dim; double buffered where copies are asynchronous.
#pragma once

#include "attn/params.h"
#include "tile/copy_any.cuh"
#include "tile/ops.cuh"

namespace portattn {

constexpr int kProductRows = 64;

// Up to 64 consecutive rows of one head; rows from `valid` on read as 0.
template <class T>
struct RowBlock {
  const T* data;
  int64_t stride;
  int32_t valid;
};

// Rows from `first` on of a sequence of `len` rows that starts at `base`.
template <class T>
PA_DEVICE RowBlock<T> row_block(const T* base, const TensorView& view, int32_t first, int32_t len) {
  return {base + first * view.token_stride, view.token_stride, clamp(len - first, 0, kProductRows)};
}

template <class T, int Threads>
class BlockProduct {
 public:
  static constexpr int kDepth = 128 / static_cast<int>(sizeof(T));
  using Tile = SmemTile<T, kProductRows, kDepth>;
  static constexpr int kStages = Arch::kCopyStages;
  static constexpr int kSmemBytes = kStages * 2 * Tile::kBytes;

  PA_DEVICE BlockProduct(char* smem, bool wide, int tid) : smem_(smem), wide_(wide), tid_(tid) {}

  // a_row and b_row: corner of the warp's accumulators. tail() issues loads that overlap the last step; they have not
  // arrived on return.
  template <class Acc, class Tail>
  PA_DEVICE void add(Acc& acc, const RowBlock<T>& a, const RowBlock<T>& b, int32_t depth, int a_row, int b_row,
                     Tail tail) const {
    const int32_t steps = ceil_div(depth, kDepth);
    if constexpr (kStages == 2) {
      load(a, b, depth, 0);
      copy_commit();
    }
    PA_NO_UNROLL
    for (int32_t step = 0; step < steps; ++step) {
      if constexpr (kStages == 1) load(a, b, depth, step);
      if (step + 1 == steps) {
        tail();
      } else if constexpr (kStages == 2) {
        load(a, b, depth, step + 1);
      }
      copy_commit();
      copy_wait<kStages - 1>();
      block_sync();  // this step's pieces have arrived for all
      mma_nt(acc, tile_a(step), a_row, tile_b(step), b_row, tid_ % Arch::kWarpSize);
      block_sync();  // all are done with them, another step may overwrite them
    }
  }

 private:
  PA_DEVICE Tile tile_a(int32_t step) const { return Tile(smem_ + step % kStages * 2 * Tile::kBytes); }
  PA_DEVICE Tile tile_b(int32_t step) const { return Tile(smem_ + (step % kStages * 2 + 1) * Tile::kBytes); }

  PA_DEVICE void load(const RowBlock<T>& a, const RowBlock<T>& b, int32_t depth, int32_t step) const {
    const int32_t first = step * kDepth;
    load_tile_any<Threads>(wide_, tile_a(step), a.data + first, a.stride, a.valid, depth - first, tid_);
    load_tile_any<Threads>(wide_, tile_b(step), b.data + first, b.stride, b.valid, depth - first, tid_);
  }

  char* smem_;
  bool wide_;
  int tid_;
};

}  // namespace portattn
