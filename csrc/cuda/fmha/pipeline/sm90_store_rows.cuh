// sm_90: rows of a warp's accumulators to global memory, as 16-byte vectors and without shared memory.
#pragma once

#include "device/warp.cuh"
#include "tile/reg_tile.cuh"

namespace portattn::sm90 {

// x[i] of lane j of each quad <-> x[j] of lane i.
PA_DEVICE void transpose_quad(uint32_t (&x)[4], int lane) {
  PA_UNROLL
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = lane & bit;
    PA_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      const uint32_t got = shuffle_xor(upper ? x[i] : x[i | bit], bit);
      if (upper) {
        x[i] = got;
      } else {
        x[i | bit] = got;
      }
    }
  }
}

// Writes rows below `total`, zeros for those at or past `valid`, and columns below `cols`; `out` is the first row. The
// four lanes of a quad hold pairs of columns of four 8-column blocks; they swap them, so that each writes 16 bytes of
// one block, and a warp whole sectors.
template <class T, class Tile>
PA_DEVICE void store_rows(T* out, int64_t stride, const Tile& tile, float scale, int valid, int total, int cols,
                          int lane) {
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    const int r = Tile::Layout::row(lane, s);
    T* row = out + r * stride;
    PA_UNROLL
    for (int block = 0; block < Tile::kN / 8; block += 4) {
      uint32_t x[4];
      PA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int c = 2 * (block + i);
        x[i] = r < valid ? sm80::pack2<T>(tile.at(s, c) * scale, tile.at(s, c + 1) * scale) : 0u;
      }
      transpose_quad(x, lane);
      const int col = (block + lane % 4) * 8;
      if (r < total && col < cols) *reinterpret_cast<uint4*>(row + col) = make_uint4(x[0], x[1], x[2], x[3]);
    }
  }
}

}  // namespace portattn::sm90
