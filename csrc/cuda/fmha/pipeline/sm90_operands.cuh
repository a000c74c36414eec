// What threads do to the operands of wgmma in the pipelines of sm_90: pack accumulators, clear rows of shared tiles.
#pragma once

#include "arch/sm90/tma.cuh"
#include "tile/reg_tile.cuh"

namespace portattn::sm90 {

// A tile of accumulators as the A operand of a product that runs along its columns: 16 of them a step, rounded to T.
template <class T, class Tile>
PA_DEVICE void pack_operand(const Tile& tile, uint32_t (&out)[Tile::kN / 16][4]) {
  PA_UNROLL
  for (int k = 0; k < Tile::kN / 16; ++k) {
    PA_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = i % 2, col = 4 * k + i / 2 * 2;
      out[k][i] = sm80::pack2<T>(tile.at(row, col), tile.at(row, col + 1));
    }
  }
}

// Zeros in rows [valid, Rows) of a tile, by `Threads` threads. What the TMA loads past a sequence is anything, NaN too,
// and 0 * NaN is NaN. Before products read the tile, every thread needs fence_async_proxy() and all have to meet.
// Compact: in little code, for steps that hardly fit the instruction cache.
template <int Rows, int Cols, int Threads, bool Compact = false>
PA_DEVICE void clear_rows(char* tile, int valid, int tid) {
  constexpr int kChunks = kSlabBytes / 16;
  if constexpr (Compact) {
    PA_NO_UNROLL
    for (int slab = 0; slab < Cols / kBoxColumns; ++slab) {
      uint4* chunks = reinterpret_cast<uint4*>(tile + slab * Rows * kSlabBytes);
      PA_NO_UNROLL
      for (int i = valid * kChunks + tid; i < Rows * kChunks; i += Threads) chunks[i] = make_uint4(0, 0, 0, 0);
    }
  } else {
    for (int slab = 0; slab < Cols / kBoxColumns; ++slab) {
      uint4* chunks = reinterpret_cast<uint4*>(tile + slab * Rows * kSlabBytes);
      for (int i = valid * kChunks + tid; i < Rows * kChunks; i += Threads) chunks[i] = make_uint4(0, 0, 0, 0);
    }
  }
}

}  // namespace portattn::sm90
