// gfx942 and gfx950: global <-> shared tile copies, 16 bytes a thread through registers, and tile adds into global
// float memory. Callers give 16-byte aligned rows; rows and columns out of bounds are never read.
#pragma once

#include "arch/gfx942/buffer.cuh"
#include "arch/gfx942/layout.cuh"
#include "device/math.cuh"
#include "device/sync.cuh"
#include "device/types.cuh"

namespace portattn::gfx942 {

constexpr int kCopyAlignment = 16;  // bytes; what the tile copies below ask of rows and strides

// Pointers that passed through shared memory are known to the compiler as generic ones, whose accesses wait for LDS and
// global memory alike; this says where they point. An address is taken as it comes.
template <class T>
using Global = __attribute__((address_space(1))) T;
template <class T, class Address>
PA_DEVICE Global<T>* global(Address address) {
  return (Global<T>*)address;  // NOLINT: only this kind of cast changes the address space
}

// How a block's threads share the 16-byte chunks of a tile: thread (row, chunk) takes every kRowsPerPass-th row.
template <int Threads, class Smem>
struct CopyThread {
  using Layout = typename Smem::Layout;
  static constexpr int kRowsPerPass = Threads / Layout::kChunks;
  static constexpr int kPasses = (Smem::kRows + kRowsPerPass - 1) / kRowsPerPass;
  static constexpr bool kRagged = Smem::kRows % kRowsPerPass != 0 || Threads % Layout::kChunks != 0;
  static_assert(kRowsPerPass >= 1, "a row has at most as many chunks as the block has threads");

  int row, chunk;
  PA_DEVICE explicit CopyThread(int tid) : row(tid / Layout::kChunks), chunk(tid % Layout::kChunks) {
    if (Threads % Layout::kChunks != 0 && row >= kRowsPerPass) row = Smem::kRows;  // a thread to spare
  }
  PA_DEVICE int col() const { return chunk * Layout::kChunk; }
  PA_DEVICE int row_at(int pass) const { return row + pass * kRowsPerPass; }
  PA_DEVICE bool inside(int pass) const { return !kRagged || row_at(pass) < Smem::kRows; }
  PA_DEVICE int offset(int pass) const { return Layout::chunk_offset(row_at(pass), chunk); }
};

// A tile on its way to shared memory, in the registers of the block's threads, which all give the same source. What is
// out of bounds is 0.
template <int Threads, class Smem>
class TileInFlight {
 public:
  using T = typename Smem::Element;
  using Thread = CopyThread<Threads, Smem>;

  PA_DEVICE TileInFlight(const T* src, int64_t row_stride, int rows_valid, int cols_valid, int tid)
      : thread_(opaque(tid)) {
    const int64_t row_bytes = uniform(row_stride) * static_cast<int64_t>(sizeof(T));
    const int rows = clamp(uniform(rows_valid), 0, Smem::kRows);
    const int width = uniform(cols_valid) * static_cast<int>(sizeof(T));
    if (__builtin_expect(fits_view(row_bytes, width), true)) {
      load_in_view(src, static_cast<uint32_t>(row_bytes), rows, width);
    } else {
      load_by_rows(src, row_bytes, rows, width);
    }
  }

  PA_DEVICE void land(Smem tile) const {
    PA_UNROLL
    for (int pass = 0; pass < Thread::kPasses; ++pass) {
      if (thread_.inside(pass)) *reinterpret_cast<Chunk*>(tile.data + thread_.offset(pass)) = chunks_[pass];
    }
  }

 private:
  // Do rows not overlap, and are offsets into the tile less than RowsInMemory::kNowhere?
  static PA_DEVICE bool fits_view(int64_t row_bytes, int width) {
    constexpr int kRowBits = 32 - __builtin_clz(Smem::kRows);
    return static_cast<uint64_t>(row_bytes - width) >> (30 - kRowBits) == 0;  // negative numbers do not pass
  }

  // The hardware keeps to the bounds.
  PA_DEVICE void load_in_view(const T* src, uint32_t row_bytes, int rows, int width) {
    const RowsInMemory view(src, row_bytes, rows, width);
    const uint32_t first =
        thread_.chunk * 16 < width ? thread_.row * row_bytes + thread_.chunk * 16 : RowsInMemory::kNowhere;
    PA_UNROLL
    for (int pass = 0; pass < Thread::kPasses; ++pass) {
      chunks_[pass] = view.chunk(first + pass * (Thread::kRowsPerPass * row_bytes));
    }
  }

  // Rows that 32 bits cannot address, or that overlap: a single one, or one that is repeated.
  PA_DEVICE void load_by_rows(const T* src, int64_t row_bytes, int rows, int width) {
    uint64_t from = reinterpret_cast<uint64_t>(src) + thread_.row * row_bytes + thread_.chunk * 16;
    if (thread_.chunk * 16 >= width) rows = 0;
    PA_UNROLL
    for (int pass = 0; pass < Thread::kPasses; ++pass) {
      chunks_[pass] = Chunk(0);
      if (thread_.row_at(pass) < rows) chunks_[pass] = *global<const Chunk>(from);
      from = opaque(from + Thread::kRowsPerPass * row_bytes);
    }
  }

  Thread thread_;
  Chunk chunks_[Thread::kPasses];
};

// The tile has landed for this thread when the call returns.
template <int Threads, class Smem, class T>
PA_DEVICE void load_tile_async(Smem tile, const T* src, int64_t row_stride, int rows_valid, int cols_valid, int tid) {
  TileInFlight<Threads, Smem>(src, row_stride, rows_valid, cols_valid, tid).land(tile);
}

// Row r comes from row_at(r), or is 0 where that is null.
template <int Threads, class Smem, class RowAt>
PA_DEVICE void gather_tile_async(Smem tile, RowAt row_at, int cols_valid, int tid) {
  using Thread = CopyThread<Threads, Smem>;
  const Thread thread(opaque(tid));
  Chunk chunks[Thread::kPasses];
  PA_UNROLL
  for (int pass = 0; pass < Thread::kPasses; ++pass) {
    chunks[pass] = Chunk(0);
    if (!thread.inside(pass) || thread.col() >= cols_valid) continue;
    const auto* from = row_at(thread.row_at(pass));
    if (from != nullptr) chunks[pass] = *global<const Chunk>(from + thread.col());
  }
  PA_UNROLL
  for (int pass = 0; pass < Thread::kPasses; ++pass) {
    if (thread.inside(pass)) *reinterpret_cast<Chunk*>(tile.data + thread.offset(pass)) = chunks[pass];
  }
}

// dst[r] = src[r * stride] for r below rows_valid and 0 for the rest of Rows floats.
template <int Threads, int Rows>
PA_DEVICE void load_vector_async(float* dst, const float* src, int64_t stride, int rows_valid, int tid) {
  PA_UNROLL
  for (int r0 = 0; r0 < Rows; r0 += Threads) {
    const int r = r0 + tid;
    if (Rows % Threads != 0 && r >= Rows) break;
    dst[r] = r < rows_valid ? *global<const float>(src + r * stride) : 0.f;
  }
}

PA_DEVICE void copy_commit() {}
template <int Pending>
PA_DEVICE void copy_wait() {}

// Rows [0, rows_valid) come from the tile, rows [rows_valid, rows_total) are written 0.
template <int Threads, class Smem, class T>
PA_DEVICE void store_tile(T* dst, int64_t row_stride, Smem tile, int rows_valid, int rows_total, int cols_valid,
                          int tid) {
  using Thread = CopyThread<Threads, Smem>;
  const Thread thread(opaque(tid));
  uint64_t to = reinterpret_cast<uint64_t>(dst + thread.row * row_stride + thread.col());
  const int rows = thread.col() < cols_valid ? rows_total : 0;
  PA_UNROLL
  for (int pass = 0; pass < Thread::kPasses; ++pass) {
    if (thread.inside(pass) && thread.row_at(pass) < rows) {
      Chunk bits = Chunk(0);
      if (thread.row_at(pass) < rows_valid) bits = *reinterpret_cast<const Chunk*>(tile.data + thread.offset(pass));
      *global<Chunk>(to) = bits;
    }
    to = opaque(to + Thread::kRowsPerPass * row_stride * sizeof(T));
  }
}

// Row r goes to row_at(r), unless that is null.
template <int Threads, class Smem, class RowAt>
PA_DEVICE void scatter_tile(RowAt row_at, Smem tile, int cols_valid, int tid) {
  using Thread = CopyThread<Threads, Smem>;
  const Thread thread(opaque(tid));
  if (thread.col() >= cols_valid) return;
  PA_UNROLL
  for (int pass = 0; pass < Thread::kPasses; ++pass) {
    if (!thread.inside(pass)) continue;
    auto* to = row_at(thread.row_at(pass));
    if (to == nullptr) continue;
    *global<Chunk>(to + thread.col()) = *reinterpret_cast<const Chunk*>(tile.data + thread.offset(pass));
  }
}

// scratch[row, col] += tile, in ScratchLayout; `scratch` is the block of row 0, `step` leads to the block 16 rows on.
// 16 x 8 blocks at or past `rows` or `cols` are left out. The order of additions is not fixed.
template <class Tile>
PA_DEVICE void add_to_scratch(float* scratch, int64_t step, const Tile& tile, int row, int col, int rows, int cols,
                              int lane) {
  using L = typename Tile::Layout;
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    const int r = row + L::row(lane, s), group = r / 16;
    if (group * 16 >= rows) continue;
    float* out = scratch + group * step + ScratchLayout::offset(r % 16, L::col(lane, 0)) + col * 16;
    PA_UNROLL
    for (int c = 0; c < Tile::kColSlots; ++c) {
      if (col + L::strip(lane, c) * 8 >= cols) continue;
      __builtin_amdgcn_global_atomic_fadd_f32(global<float>(out + ScratchLayout::offset(0, L::col(0, c))),
                                              tile.at(s, c));
    }
  }
}

}  // namespace portattn::gfx942
