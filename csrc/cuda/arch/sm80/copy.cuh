// sm_80 and later: global <-> shared tile copies, 16 bytes a thread, and tile adds into global float memory.
// Callers give 16-byte aligned rows; rows and columns out of bounds are never read.
#pragma once

#include "arch/sm80/layout.cuh"
#include "device/sync.cuh"
#include "device/types.cuh"
#include "device/warp.cuh"

namespace portattn::sm80 {

constexpr int kCopyAlignment = 16;  // bytes; what the tile copies below ask of rows and strides

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

// How a block's threads share the 16-byte chunks of a tile: thread (row, chunk) takes every kRowsPerPass-th row.
// Addresses then advance by one addition a pass, which keeps them out of registers that the accumulators need.
template <int Threads, class Smem>
struct CopyThread {
  using Layout = typename Smem::Layout;
  static constexpr int kRowsPerPass = Threads / Layout::kChunks;
  static constexpr int kPasses = (Smem::kRows + kRowsPerPass - 1) / kRowsPerPass;
  static constexpr bool kRagged = Smem::kRows % kRowsPerPass != 0 || Threads % Layout::kChunks != 0;
  static_assert(kRowsPerPass >= 1, "a row has at most as many chunks as the block has threads");

  int row, col;
  PA_DEVICE explicit CopyThread(int tid) : row(tid / Layout::kChunks), col(tid % Layout::kChunks * Layout::kChunk) {
    if (Threads % Layout::kChunks != 0 && row >= kRowsPerPass) row = Smem::kRows;  // a thread to spare
  }
  PA_DEVICE int row_at(int pass) const { return row + pass * kRowsPerPass; }
  PA_DEVICE bool inside(int pass) const { return !kRagged || row_at(pass) < Smem::kRows; }
  // Element offset in the tile: one constant step a pass when the swizzle does not change. Where it does, and a pass
  // takes 1, 2 or 4 rows, the row in a pass and the pass have bits of their own in it: one exclusive-or a pass.
  PA_DEVICE int offset(int pass) const {
    if constexpr (kRowsPerPass % 8 == 0) return Layout::offset(row, col) + pass * kRowsPerPass * Smem::kCols;
    if constexpr (8 % kRowsPerPass == 0 && Layout::kChunks % 8 == 0 && !kRagged) {
      const int swizzle = pass * kRowsPerPass % 8 * Layout::kChunk;
      return (Layout::offset(row, col) ^ swizzle) + pass * kRowsPerPass * Smem::kCols;
    }
    return Layout::offset(row_at(pass), col);
  }
};

template <int Threads, class Smem, class T>
PA_DEVICE void load_tile_async(Smem tile, const T* src, int64_t row_stride, int rows_valid, int cols_valid, int tid) {
  using Thread = CopyThread<Threads, Smem>;
  const Thread thread(opaque(tid));
  const uint32_t base = smem_address(tile.data);
  const T* from = src + thread.row * row_stride + thread.col;
  const int rows = thread.col < cols_valid ? rows_valid : 0;
  PA_UNROLL
  for (int pass = 0; pass < Thread::kPasses; ++pass) {
    if (thread.inside(pass)) {
      copy16_async(base + thread.offset(pass) * static_cast<int>(sizeof(T)), from, thread.row_at(pass) < rows);
    }
    from = opaque(from + Thread::kRowsPerPass * row_stride);
  }
}

// Row r comes from row_at(r), or is 0 where that is null.
template <int Threads, class Smem, class RowAt>
PA_DEVICE void gather_tile_async(Smem tile, RowAt row_at, int cols_valid, int tid) {
  using Thread = CopyThread<Threads, Smem>;
  const Thread thread(opaque(tid));
  const uint32_t base = smem_address(tile.data);
  PA_UNROLL
  for (int pass = 0; pass < Thread::kPasses; ++pass) {
    if (!thread.inside(pass)) continue;
    const auto* from = row_at(thread.row_at(pass));
    copy16_async(base + thread.offset(pass) * static_cast<int>(sizeof(*from)), from + thread.col,
                 from != nullptr && thread.col < cols_valid);
  }
}

// dst[r] = src[r * stride] for r below rows_valid and 0 for the rest of Rows floats.
template <int Threads, int Rows>
PA_DEVICE void load_vector_async(float* dst, const float* src, int64_t stride, int rows_valid, int tid) {
  PA_UNROLL
  for (int r0 = 0; r0 < Rows; r0 += Threads) {
    const int r = r0 + tid;
    if (Rows % Threads != 0 && r >= Rows) break;
    const int bytes = r < rows_valid ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(smem_address(dst + r)), "l"(src + r * stride),
                 "r"(bytes)
                 : "memory");
  }
}

// Rows [0, rows_valid) come from the tile, rows [rows_valid, rows_total) are written 0.
template <int Threads, class Smem, class T>
PA_DEVICE void store_tile(T* dst, int64_t row_stride, Smem tile, int rows_valid, int rows_total, int cols_valid,
                          int tid) {
  using Thread = CopyThread<Threads, Smem>;
  const Thread thread(opaque(tid));
  T* to = dst + thread.row * row_stride + thread.col;
  const int rows = thread.col < cols_valid ? rows_total : 0;
  PA_UNROLL
  for (int pass = 0; pass < Thread::kPasses; ++pass) {
    if (thread.inside(pass) && thread.row_at(pass) < rows) {
      uint4 bits = make_uint4(0, 0, 0, 0);
      if (thread.row_at(pass) < rows_valid) bits = *reinterpret_cast<const uint4*>(tile.data + thread.offset(pass));
      *reinterpret_cast<uint4*>(to) = bits;
    }
    to += Thread::kRowsPerPass * row_stride;
  }
}

// Row r goes to row_at(r), unless that is null.
template <int Threads, class Smem, class RowAt>
PA_DEVICE void scatter_tile(RowAt row_at, Smem tile, int cols_valid, int tid) {
  using Thread = CopyThread<Threads, Smem>;
  const Thread thread(opaque(tid));
  if (thread.col >= cols_valid) return;
  PA_UNROLL
  for (int pass = 0; pass < Thread::kPasses; ++pass) {
    if (!thread.inside(pass)) continue;
    auto* to = row_at(thread.row_at(pass));
    if (to == nullptr) continue;
    *reinterpret_cast<uint4*>(to + thread.col) = *reinterpret_cast<const uint4*>(tile.data + thread.offset(pass));
  }
}

PA_DEVICE void atomic_add4(float* dst, const float* x) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(dst), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
               : "memory");
#else
  PA_UNROLL
  for (int i = 0; i < 4; ++i) atomicAdd(dst + i, x[i]);
#endif
}

// scratch[row, col] += tile, in ScratchLayout; `scratch` is the block of row 0, `step` leads to the block 16 rows on.
// 16 x 8 blocks at or past `rows` or `cols` are left out. The order of additions is not fixed.
template <class Tile>
PA_DEVICE void add_to_scratch(float* scratch, int64_t step, const Tile& tile, int row, int col, int rows, int cols,
                              int lane) {
  PA_UNROLL
  for (int m = 0; m < Tile::kM / 16; ++m) {
    float* out = scratch + (row / 16 + m) * step + col * 16 + lane * 4;
    PA_UNROLL
    for (int n = 0; n < Tile::kN / 8; ++n) {
      if (row + m * 16 < rows && col + n * 8 < cols) atomic_add4(out + n * 128, &tile.at(2 * m, 2 * n));
    }
  }
}

}  // namespace portattn::sm80
