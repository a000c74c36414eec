// Tile copies for rows of any alignment and width: the arch's wide copies where these can be used, element by element
// where not. Same contract as load_tile_async and store_tile, and cols_valid may be what is left of a row: more than
// the tile has, or nothing.
#pragma once

#include "device/math.cuh"
#include "device/vector.cuh"
#include "tile/smem_tile.cuh"

namespace portattn {

// Can the arch's tile copies serve this tensor?
inline bool has_wide_rows(const TensorView& view, int32_t head_dim, int64_t elem_bytes) {
  return rows_aligned(view, head_dim, elem_bytes, kCopyAlignment);
}

template <int Threads, class Smem, class T>
PA_DEVICE void load_tile_any(bool wide, Smem tile, const T* src, int64_t row_stride, int rows_valid, int cols_valid,
                             int tid) {
  cols_valid = clamp(cols_valid, 0, Smem::kCols);
  if (wide) return load_tile_async<Threads>(tile, src, row_stride, rows_valid, cols_valid, tid);
  using Element = typename Smem::Element;
  for (int i = tid; i < Smem::kRows * Smem::kCols; i += Threads) {
    const int row = i / Smem::kCols, col = i % Smem::kCols;
    const bool valid = row < rows_valid && col < cols_valid;
    tile.at(row, col) = valid ? from_acc<Element>(to_float(src[row * row_stride + col])) : from_acc<Element>(0.f);
  }
}

template <int Threads, class Smem, class T>
PA_DEVICE void store_tile_any(bool wide, T* dst, int64_t row_stride, Smem tile, int rows_valid, int rows_total,
                              int cols_valid, int tid) {
  cols_valid = clamp(cols_valid, 0, Smem::kCols);
  if (wide) return store_tile<Threads>(dst, row_stride, tile, rows_valid, rows_total, cols_valid, tid);
  for (int i = tid; i < rows_total * Smem::kCols; i += Threads) {
    const int row = i / Smem::kCols, col = i % Smem::kCols;
    if (col >= cols_valid) continue;
    dst[row * row_stride + col] = row < rows_valid ? from_acc<T>(to_float(tile.at(row, col))) : from_acc<T>(0.f);
  }
}

}  // namespace portattn
