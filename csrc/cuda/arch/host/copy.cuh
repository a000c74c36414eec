// Host arch: global <-> tile copies. A load widens to the accumulator type and zero-fills what is out of bounds.
#pragma once

#include <atomic>
#include <cstdint>

#include "arch/host/layout.cuh"
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

// Row r comes from row_at(r), or is 0 where that is null.
template <int Threads, class Smem, class RowAt>
PA_DEVICE void gather_tile_async(Smem tile, RowAt row_at, int cols_valid, int /*tid*/) {
  using S = typename Smem::Element;
  for (int r = 0; r < Smem::kRows; ++r) {
    S* out = tile.data + r * Smem::kCols;
    const auto* in = row_at(r);
    const int n = in == nullptr ? 0 : cols_valid;
    for (int c = 0; c < n; ++c) out[c] = to_float(in[c]);
    for (int c = n; c < Smem::kCols; ++c) out[c] = S(0);
  }
}

// dst[r] = src[r * stride] for r below rows_valid and 0 for the rest of Rows floats.
template <int Threads, int Rows>
PA_DEVICE void load_vector_async(float* dst, const float* src, int64_t stride, int rows_valid, int /*tid*/) {
  for (int r = 0; r < Rows; ++r) dst[r] = r < rows_valid ? src[r * stride] : 0.f;
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

// Row r goes to row_at(r), unless that is null.
template <int Threads, class Smem, class RowAt>
PA_DEVICE void scatter_tile(RowAt row_at, Smem tile, int cols_valid, int /*tid*/) {
  for (int r = 0; r < Smem::kRows; ++r) {
    auto* out = row_at(r);
    if (out == nullptr) continue;
    const typename Smem::Element* in = tile.data + r * Smem::kCols;
    for (int c = 0; c < cols_valid; ++c) out[c] = from_acc<typename Smem::Source>(in[c]);
  }
}

// A lock for each stripe of memory: adding a tile under one is far cheaper than an atomic for each element.
inline std::atomic_flag& stripe_lock(const void* address) {
  constexpr size_t kStripes = 1024;
  static std::atomic_flag locks[kStripes];
  size_t key = reinterpret_cast<size_t>(address) / 64;
  return locks[(key ^ key / kStripes) % kStripes];
}

// scratch[row, col] += tile, in ScratchLayout; `scratch` is the block of row 0, `step` leads to the block 16 rows on.
// 16 x 8 blocks at or past `rows` or `cols` are left out. The order of additions is not fixed.
template <class Tile>
PA_DEVICE void add_to_scratch(float* scratch, int64_t step, const Tile& tile, int row, int col, int rows, int cols,
                              int /*lane*/) {
  std::atomic_flag& lock = stripe_lock(scratch);
  while (lock.test_and_set(std::memory_order_acquire)) {
  }
  for (int r = 0; r < Tile::kM && (row + r) / 16 * 16 < rows; ++r) {
    float* block = scratch + (row + r) / 16 * step;
    for (int c = 0; c < Tile::kN && col + c < cols; c += 8) {
      float* out = block + ScratchLayout::offset((row + r) % 16, col + c);
      for (int i = 0; i < 8; ++i) out[i] += tile.data[r * Tile::kN + c + i];
    }
  }
  lock.clear(std::memory_order_release);
}

}  // namespace portattn::host
