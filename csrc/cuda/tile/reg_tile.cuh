// AccTile: an M x N tile of accumulators spread over the lanes of one warp.
//
// Every layout is a product: a lane holds kRowSlots rows times kColSlots columns, row(lane, s) depends on the row slot
// only and col(lane, c) = col(lane, 0) + col(0, c) on the column slot only. That holds for mma.sync (2 rows per 16),
// for MFMA with swapped operands (one query a lane) and for the host (one lane holds everything), and it is all that
// masks, softmax and epilogues need to know. Layouts are constexpr functions of (lane, slot), proven on the CPU for
// every arch.
#pragma once

#include "device/math.cuh"
#include "device/warp.cuh"
#include "tile/arch_select.cuh"

namespace portattn {

template <class Acc, int M, int N, class LaneMap = Arch::AccLayout<M, N>>
struct AccTile {
  using Layout = LaneMap;
  using Value = Acc;
  static constexpr int kM = M;
  static constexpr int kN = N;
  static constexpr int kRowSlots = Layout::kRowSlots;
  static constexpr int kColSlots = Layout::kColSlots;

  alignas(Arch::kAccAlign) Acc data[kRowSlots * kColSlots];

  PA_DEVICE Acc& at(int s, int c) { return data[Layout::index(s, c)]; }
  PA_DEVICE const Acc& at(int s, int c) const { return data[Layout::index(s, c)]; }

  PA_DEVICE void fill(Acc value) {
    PA_UNROLL
    for (int i = 0; i < kRowSlots * kColSlots; ++i) data[i] = value;
  }
};

// A tile of results, o or a gradient: what products other than mma_nt make. It has the rows of a tile of scores; its
// columns may be dealt to lanes in another order, which an arch reads with less work.
template <class Acc, int M, int N>
using ResultTile = AccTile<Acc, M, N, Arch::ResultLayout<M, N>>;

// One value for each row that this lane holds.
template <class Tile>
struct RowValues {
  typename Tile::Value data[Tile::kRowSlots];
  PA_DEVICE typename Tile::Value& operator[](int s) { return data[s]; }
  PA_DEVICE const typename Tile::Value& operator[](int s) const { return data[s]; }
  PA_DEVICE void fill(typename Tile::Value value) {
    PA_UNROLL
    for (int s = 0; s < Tile::kRowSlots; ++s) data[s] = value;
  }
};

// f(value&, row slot, row in tile, column in tile) for every element that this lane holds.
template <class Tile, class F>
PA_DEVICE void for_each(Tile& tile, int lane, F f) {
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    const int row = Tile::Layout::row(lane, s);
    PA_UNROLL
    for (int c = 0; c < Tile::kColSlots; ++c) f(tile.at(s, c), s, row, Tile::Layout::col(lane, c));
  }
}

// Maximum over each row, in every lane that holds a part of it.
template <class Tile>
PA_DEVICE void row_max(const Tile& tile, RowValues<Tile>& out) {
  using Acc = typename Tile::Value;
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    Acc m = tile.at(s, 0);
    PA_UNROLL
    for (int c = 1; c < Tile::kColSlots; ++c) m = max_acc(m, tile.at(s, c));
    out[s] = Arch::row_reduce(m, [](Acc a, Acc b) { return max_acc(a, b); });
  }
}

// Adds up the parts of a row value that its lanes hold.
template <class Tile>
PA_DEVICE void row_allsum(RowValues<Tile>& values) {
  using Acc = typename Tile::Value;
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    values[s] = Arch::row_reduce(values[s], [](Acc a, Acc b) { return a + b; });
  }
}

}  // namespace portattn
