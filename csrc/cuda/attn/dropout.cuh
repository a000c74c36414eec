// Dropout on a tile: which elements stay, drawn once and applied to as many tiles of that place as needed.
// One Philox call serves the elements that share it: see device/philox.cuh.
#pragma once

#include "device/philox.cuh"
#include "device/sync.cuh"
#include "tile/reg_tile.cuh"

namespace portattn {

// A bit for each element that this lane holds, in (row slot, column slot) order.
template <class Tile>
class KeepMask {
 public:
  using Acc = typename Tile::Value;

  PA_DEVICE void draw(const Dropout& dropout, int lane, int32_t row0, int32_t col0) {
    lane = opaque(lane);  // or the counters of all draws would be kept in registers across tiles
    PA_UNROLL
    for (int i = 0; i < kWords; ++i) words_[i] = 0;
    // A tile of whole strips starts at a multiple of 32 columns, a smaller one at a multiple of its own width.
    const int32_t first_word = Tile::kN % kStrip == 0 ? 0 : col0 / 8 % 4;
    PA_UNROLL
    for (int s = 0; s < Tile::kRowSlots; ++s) {
      const int32_t row = row0 + Tile::Layout::row(lane, s);
      PA_UNROLL
      for (int c = 0; c < Tile::kColSlots; c += kSlots) {
        const Philox4 bits = dropout.draw(row, col0 + Tile::Layout::col(lane, c));
        PA_UNROLL
        for (int e = c; e < c + kSlots; ++e) {
          // The lane's part of a column changes neither its word nor its half: the constant part picks them.
          const int32_t col = Tile::Layout::col(0, e);
          const uint32_t keep = dropout.keep(bits, first_word + col / 8 % 4, col % 2) ? 1u : 0u;
          words_[index(s, e) / 32] |= keep << (index(s, e) % 32);
        }
      }
    }
  }

  // Kept elements are multiplied by `keep_scale`, dropped ones become 0.
  PA_DEVICE void apply(Tile& tile, Acc keep_scale) const {
    PA_UNROLL
    for (int s = 0; s < Tile::kRowSlots; ++s) {
      PA_UNROLL
      for (int c = 0; c < Tile::kColSlots; ++c) {
        const bool keep = (words_[index(s, c) / 32] >> (index(s, c) % 32)) & 1u;
        tile.at(s, c) = keep ? tile.at(s, c) * keep_scale : Acc(0);
      }
    }
  }

 private:
  static constexpr int kStrip = 32;  // columns whose elements share calls: device/philox.cuh
  static_assert(Tile::kN % kStrip == 0 || kStrip % Tile::kN == 0, "a tile is whole strips or lies in one");
  static constexpr int kSlots = Arch::kPhiloxSlots < Tile::kColSlots ? Arch::kPhiloxSlots : Tile::kColSlots;
  static constexpr int kWords = (Tile::kRowSlots * Tile::kColSlots + 31) / 32;
  static PA_DEVICE int index(int s, int c) { return s * Tile::kColSlots + c; }
  uint32_t words_[kWords];
};

}  // namespace portattn
