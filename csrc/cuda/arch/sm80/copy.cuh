// sm_80 and later: global <-> shared tile copies, 16 bytes a thread, and tile adds into global float memory.
// Callers give 16-byte aligned rows; rows and columns out of bounds are never read.
#pragma once

#include "device/types.cuh"
#include "device/warp.cuh"

namespace portattn::sm80 {

PA_DEVICE uint32_t smem_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// Copies 16 bytes, or writes 16 zero bytes when !valid (the source is then not read).
PA_DEVICE void copy16_async(uint32_t dst, const void* src, bool valid) {
  int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}

PA_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most Pending of this thread's committed groups are in flight.
template <int Pending>
PA_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

template <int Threads, class Smem, class T>
PA_DEVICE void load_tile_async(Smem tile, const T* src, int64_t row_stride, int rows_valid, int cols_valid, int tid) {
  using Layout = typename Smem::Layout;
  constexpr int kChunks = Layout::kChunks;
  constexpr int kTotal = Smem::kRows * kChunks;
  const uint32_t base = smem_address(tile.data);
  PA_UNROLL
  for (int i = 0; i < (kTotal + Threads - 1) / Threads; ++i) {
    const int index = i * Threads + tid;
    if (kTotal % Threads != 0 && index >= kTotal) break;
    const int row = index / kChunks, chunk = index % kChunks;
    const bool valid = row < rows_valid && chunk * Layout::kChunk < cols_valid;
    const T* from = valid ? src + row * row_stride + chunk * Layout::kChunk : src;
    copy16_async(base + Layout::chunk_offset(row, chunk) * static_cast<int>(sizeof(T)), from, valid);
  }
}

// Rows [0, rows_valid) come from the tile, rows [rows_valid, rows_total) are written 0.
template <int Threads, class Smem, class T>
PA_DEVICE void store_tile(T* dst, int64_t row_stride, Smem tile, int rows_valid, int rows_total, int cols_valid,
                          int tid) {
  using Layout = typename Smem::Layout;
  constexpr int kChunks = Layout::kChunks;
  constexpr int kTotal = Smem::kRows * kChunks;
  PA_UNROLL
  for (int i = 0; i < (kTotal + Threads - 1) / Threads; ++i) {
    const int index = i * Threads + tid;
    const int row = index / kChunks, chunk = index % kChunks;
    if (index >= kTotal || row >= rows_total || chunk * Layout::kChunk >= cols_valid) continue;
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (row < rows_valid) bits = *reinterpret_cast<const uint4*>(tile.data + Layout::chunk_offset(row, chunk));
    *reinterpret_cast<uint4*>(dst + row * row_stride + chunk * Layout::kChunk) = bits;
  }
}

PA_DEVICE void atomic_add2(float* dst, float x, float y) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(dst), "f"(x), "f"(y) : "memory");
#else
  atomicAdd(dst, x);
  atomicAdd(dst + 1, y);
#endif
}

// dst[row, col] += tile for rows below rows_valid and columns below cols_valid; order of additions is not fixed.
template <class Tile>
PA_DEVICE void atomic_add_acc(float* dst, int64_t row_stride, const Tile& tile, int row, int col, int rows_valid,
                              int cols_valid, int lane) {
  using Layout = typename Tile::Layout;
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    const int r = row + Layout::row(lane, s);
    if (r >= rows_valid) continue;
    float* out = dst + r * row_stride + col;
    PA_UNROLL
    for (int c = 0; c < Tile::kColSlots; c += 2) {
      const int j = Layout::col(lane, c);
      if (col + j < cols_valid) atomic_add2(out + j, tile.at(s, c), tile.at(s, c + 1));
    }
  }
}

}  // namespace portattn::sm80
