// sm_90: rows of a warp's accumulators to global memory by way of shared memory: fewer instructions than
// sm90_store_rows.cuh.
#pragma once

#include "arch/sm90/tma.cuh"
#include "arch/sm90/wgmma.cuh"
#include "device/sync.cuh"
#include "tile/reg_tile.cuh"

namespace portattn::sm90 {

// A warp's 16 rows, rounded to T, as a tile that TMA loads would lie: slabs of SlabBytes. `rows` is the first of them,
// a multiple of 8 in its slab.
template <class T, int SlabBytes, class Tile>
PA_DEVICE void stage_rows(char* rows, const Tile& tile, int lane) {
  const uint32_t row = smem_address(rows) + lane % 16 * kSlabBytes, swizzle = (lane / 16 ^ lane % 8) * 16;
  PA_UNROLL
  for (int chunk = 0; chunk < Tile::kN / 8; chunk += 2) {
    uint32_t x[4];
    PA_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int c = 2 * (chunk + i / 2);
      x[i] = sm80::pack2<T>(tile.at(i % 2, c), tile.at(i % 2, c + 1));
    }
    store_matrices(row + chunk / 8 * SlabBytes + (chunk % 8 * 16 ^ swizzle), x);
  }
  warp_sync();
}

// 16 bytes of a staged row.
template <int SlabBytes>
PA_DEVICE uint4 staged_chunk(const char* rows, int row, int chunk) {
  return *reinterpret_cast<const uint4*>(rows + chunk / 8 * SlabBytes + row * kSlabBytes + (chunk ^ row) % 8 * 16);
}

// Writes rows below `total`, zeros for those at or past `valid`, and columns below `cols`; `out` is the first row,
// `staging` as above.
template <class T, int SlabBytes, class Tile>
PA_DEVICE void store_staged(T* out, int64_t stride, const Tile& tile, int valid, int total, int cols, char* staging,
                            int lane) {
  constexpr int kChunks = Tile::kN / 8;
  constexpr int kLanes = kChunks & -kChunks, kStep = 32 / kLanes;  // lanes on a row, rows at a time
  stage_rows<T, SlabBytes>(staging, tile, lane);
  const int first = lane / kLanes;
  PA_UNROLL
  for (int column = 0; column < kChunks; column += kLanes) {
    const int chunk = column + lane % kLanes;
    uint4 x[16 / kStep];
    PA_UNROLL
    for (int i = 0; i < 16 / kStep; ++i) x[i] = staged_chunk<SlabBytes>(staging, first + i * kStep, chunk);
    if (valid < 16) {
      PA_UNROLL
      for (int i = 0; i < 16 / kStep; ++i) {
        if (first + i * kStep >= valid) x[i] = make_uint4(0, 0, 0, 0);
      }
    }
    T* at = out + first * stride + chunk * 8;
    PA_UNROLL
    for (int i = 0; i < 16 / kStep; ++i, at += kStep * stride) {
      if (chunk * 8 < cols && first + i * kStep < total) *reinterpret_cast<uint4*>(at) = x[i];
    }
  }
}

}  // namespace portattn::sm90
