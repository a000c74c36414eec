// Host arch: global <-> tile copies. A load widens to the accumulator type and zero-fills what is out of bounds.
#pragma once

#include <atomic>
#include <cstdint>

#include "device/types.cuh"

namespace portattn::host {

constexpr int kCopyAlignment = 1;  // bytes; what the tile copies below ask of rows and strides

template <int Threads, class Smem, class T>
PA_DEVICE void load_tile_async(Smem tile, const T* src, int64_t row_stride, int rows_valid, int cols_valid,
                               int /*tid*/) {
  using S = typename Smem::Element;
  for (int r = 0; r < Smem::kRows; ++r) {
    S* out = tile.data + r * Smem::kCols;
    const int n = r < rows_valid ? cols_valid : 0;
    const T* in = src + r * row_stride;
    for (int c = 0; c < n; ++c) out[c] = to_float(in[c]);
    for (int c = n; c < Smem::kCols; ++c) out[c] = S(0);
  }
}

PA_DEVICE void copy_commit() {}
template <int Pending>
PA_DEVICE void copy_wait() {}

// Rows [0, rows_valid) come from the tile, rows [rows_valid, rows_total) are written 0.
template <int Threads, class Smem, class T>
PA_DEVICE void store_tile(T* dst, int64_t row_stride, Smem tile, int rows_valid, int rows_total, int cols_valid,
                          int /*tid*/) {
  for (int r = 0; r < rows_total; ++r) {
    T* out = dst + r * row_stride;
    if (r < rows_valid) {
      const typename Smem::Element* in = tile.data + r * Smem::kCols;
      for (int c = 0; c < cols_valid; ++c) out[c] = from_acc<T>(in[c]);
    } else {
      for (int c = 0; c < cols_valid; ++c) out[c] = from_acc<T>(typename Smem::Element(0));
    }
  }
}

// A lock for each stripe of memory: adding a tile under one is far cheaper than an atomic for each element.
inline std::atomic_flag& stripe_lock(const void* address) {
  constexpr size_t kStripes = 1024;
  static std::atomic_flag locks[kStripes];
  size_t key = reinterpret_cast<size_t>(address) / 64;
  return locks[(key ^ key / kStripes) % kStripes];
}

// dst[row, col] += tile for rows below rows_valid and columns below cols_valid.
template <class Tile>
PA_DEVICE void atomic_add_acc(float* dst, int64_t row_stride, const Tile& tile, int row, int col, int rows_valid,
                              int cols_valid, int /*lane*/) {
  std::atomic_flag& lock = stripe_lock(dst);
  while (lock.test_and_set(std::memory_order_acquire)) {
  }
  for (int r = 0; r < Tile::kM && row + r < rows_valid; ++r) {
    float* out = dst + (row + r) * row_stride + col;
    const int n = cols_valid - col < Tile::kN ? cols_valid - col : Tile::kN;
    for (int c = 0; c < n; ++c) out[c] += tile.data[r * Tile::kN + c];
  }
  lock.clear(std::memory_order_release);
}

}  // namespace portattn::host
