// Dropout on a tile of probabilities: dropped elements become 0, kept ones stay (the caller folds keep_scale into a
// later multiplication). One Philox call serves the eight elements that share it: see device/philox.cuh.
#pragma once

#include "device/philox.cuh"
#include "tile/reg_tile.cuh"

namespace portattn {

template <class Tile>
PA_DEVICE void drop_tile(Tile& p, int lane, const Dropout& dropout, int32_t row0, int32_t col0) {
  using Acc = typename Tile::Value;
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    const int32_t row = row0 + Tile::Layout::row(lane, s);
    // Column slots 2c, 2c + 1 are neighbours; every 4th pair starts a new strip of 32 columns on mma.sync.
    PA_UNROLL
    for (int c = 0; c < Tile::kColSlots; c += Arch::kPhiloxSlots) {
      const int32_t col = col0 + Tile::Layout::col(lane, c);
      const Philox4 bits = dropout.draw(row, col);
      PA_UNROLL
      for (int e = 0; e < Arch::kPhiloxSlots; ++e) {
        const int32_t j = col0 + Tile::Layout::col(lane, c + e);
        if (!dropout.keep(bits, j)) p.at(s, c + e) = Acc(0);
      }
    }
  }
}

}  // namespace portattn
