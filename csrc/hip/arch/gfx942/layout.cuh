// gfx942 (CDNA3) and gfx950: lane maps of MFMA 16x16 and the layout of tiles in LDS.
// Source of the lane maps: AMD matrix instruction calculator,
// https://github.com/ROCm/amd_matrix_instruction_calculator.
//
// D[i, j] = sum of A[i, k] B[k, j] gives lane 16 g + j the column j and rows i = 4 g + register. Operands are swapped:
// A is the right factor of a product, so i runs over its columns and a lane owns one row of every 16.
#pragma once

#include "device/types.cuh"

namespace portattn::gfx942 {

constexpr int kLanes = 64;
constexpr int kBlock = 16;  // rows and columns of one MFMA

// Blocks that share the lanes' places: with two, neighbouring rows (or columns) are elements of the two blocks, so that
// a lane which reads an operand across its rows reads pairs.
constexpr int ways_of(int extent) { return extent % (2 * kBlock) == 0 ? 2 : 1; }

// How the rows of the left factor are dealt to B's columns: column j of block b.
template <int Extent>
struct PairedRows {
  static constexpr bool kInOrder = false;
  static constexpr int kWays = ways_of(Extent);
  static constexpr int kGroups = Extent / kBlock / kWays;  // of kWays blocks
  static PA_HOST_DEVICE constexpr int place(int j, int block) {
    return block / kWays * kBlock * kWays + j * kWays + block % kWays;
  }
};

// How the columns of the right factor are dealt to A's rows: row i of block b. Lane group g = i / 4 then holds columns
// 8 t + 2 g + {0, 1} of a product for all t, which are those of one Philox call in each strip of 32
// (device/philox.cuh). col() and strip() say which column, and which eight columns, its slot c is.
template <int Extent>
struct PairedCols {
  static constexpr bool kInOrder = false;
  static constexpr int kWays = ways_of(Extent);
  static constexpr int kGroups = Extent / kBlock / kWays;
  static PA_HOST_DEVICE constexpr int first(int i) {
    return kWays == 2 ? i / 4 * 2 + i % 4 * 8 : i / 4 * 2 + i % 2 + i % 4 / 2 * 8;
  }
  static PA_HOST_DEVICE constexpr int place(int i, int block) {
    return block / kWays * kBlock * kWays + first(i) + block % kWays;
  }
  static PA_HOST_DEVICE constexpr int col(int g, int c) { return c / 2 * 8 + g * 2 + c % 2; }
  static PA_HOST_DEVICE constexpr int strip(int /*g*/, int c) { return c / 2; }
};

// Rows or columns one after the other, as reads that transpose deliver them (gfx950).
template <int Extent>
struct InOrder {
  static constexpr bool kInOrder = true;
  static constexpr int kWays = 1;
  static constexpr int kGroups = Extent / kBlock;
  static PA_HOST_DEVICE constexpr int place(int i, int block) { return block * kBlock + i; }
  static PA_HOST_DEVICE constexpr int col(int g, int c) { return c / 4 * 16 + g * 4 + c % 4; }
  static PA_HOST_DEVICE constexpr int strip(int g, int c) { return c / 4 * 2 + g / 2; }
};

// Accumulators of an M x N tile: 16 x 16 blocks of 4 registers. Rows and Cols are how its sides are dealt.
template <int M, int N, class RowSide, class ColSide>
struct BlockLayout {
  static_assert(M % kBlock == 0 && N % kBlock == 0, "an accumulator tile is made of 16 x 16 blocks");
  using Rows = RowSide;
  using Cols = ColSide;
  static constexpr int kRowSlots = M / kBlock;
  static constexpr int kColSlots = N / 4;
  static PA_HOST_DEVICE constexpr int index(int s, int c) { return (s * (N / kBlock) + block(c)) * 4 + element(c); }
  static PA_HOST_DEVICE constexpr int row(int lane, int s) { return Rows::place(lane % kBlock, s); }
  static PA_HOST_DEVICE constexpr int col(int lane, int c) { return Cols::col(lane / kBlock, c); }
  static PA_HOST_DEVICE constexpr int strip(int lane, int c) { return Cols::strip(lane / kBlock, c); }

 private:
  static constexpr bool kPairs = Cols::kWays == 2;
  static PA_HOST_DEVICE constexpr int block(int c) { return kPairs ? c / 8 * 2 + c % 2 : c / 4; }
  static PA_HOST_DEVICE constexpr int element(int c) { return kPairs ? c / 2 % 4 : c % 4; }
};

// Of scores, and of results: sums of rows of a right factor, which is read across its rows.
#if defined(__gfx950__)
template <int M, int N>
using AccLayout = BlockLayout<M, N, InOrder<M>, PairedCols<N>>;
template <int M, int N>
using ResultLayout = BlockLayout<M, N, InOrder<M>, InOrder<N>>;
#else
template <int M, int N>
using AccLayout = BlockLayout<M, N, PairedRows<M>, PairedCols<N>>;
template <int M, int N>
using ResultLayout = AccLayout<M, N>;
#endif

// An operand fragment: lane 16 g + i holds the `Elements` values of k from here on, of row or column i.
template <int Elements>
PA_HOST_DEVICE constexpr int fragment_k(int lane, int step) {
  return (step * (kLanes / kBlock) + lane / kBlock) * Elements;
}

// Row-major tile whose 16-byte chunks are permuted inside each row, and where a row is not whole lines of the 128 bytes
// of the 32 banks, inside a pair of rows. The permutations are exclusive-ors of row bits, found by search: copies and
// reads of fragments, along rows (16 bytes a lane) and across rows (pairs of elements; on gfx950 four rows of two
// chunks), are free of bank conflicts. How the LDS of gfx942 serves a wave, which is taken for gfx950's too:
// https://rocm.docs.amd.com/projects/composable_kernel/en/latest/conceptual/ck_tile/hardware/lds_bank_conflicts.html
template <class T, int Cols>
struct SmemLayout {
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(T));  // elements of 16 bytes
  static constexpr int kChunks = Cols / kChunk;
  static_assert(Cols % kChunk == 0, "rows are whole 16-byte chunks");
  static PA_HOST_DEVICE constexpr int chunk_offset(int row, int chunk) {
    if (kChunks % 8 == 0) return row * Cols + (chunk ^ swizzle8(row)) * kChunk;
    if (kChunks % 4 == 0) return swapped(row) * Cols + (chunk ^ swizzle4(row)) * kChunk;
    return row * Cols + chunk * kChunk;
  }
  static PA_HOST_DEVICE constexpr int offset(int row, int col) {
    return chunk_offset(row, col / kChunk) + col % kChunk;
  }

 private:
  static PA_HOST_DEVICE constexpr int swizzle4(int row) { return (row >> 4 & 1) | ((row ^ row >> 2) & 2); }
#if defined(__gfx950__)
  static PA_HOST_DEVICE constexpr int swizzle8(int row) {
    return ((row ^ row >> 4) << 1 & 2) | ((row << 1 ^ row ^ row >> 1) & 4);
  }
  static PA_HOST_DEVICE constexpr int swapped(int row) { return row ^ (row >> 1 & 1); }
#else
  static PA_HOST_DEVICE constexpr int swizzle8(int row) {
    return ((row ^ row >> 4) & 1) | (row & 2) | ((row << 1 ^ row ^ row >> 1) & 4);
  }
  static PA_HOST_DEVICE constexpr int swapped(int row) {
    return (row & ~1) | ((row ^ row >> 1 ^ row >> 2 ^ row >> 3 ^ row >> 4) & 1);
  }
#endif
};

// Accumulators of a strip of 32 rows by N columns on MFMA 32x32x8, made transposed (fmha/pipeline/gfx942_strip.cuh): a
// lane owns one row and four columns of every eight.
constexpr int kStrip = 32;

template <int M, int N>
struct StripLayout {
  static_assert(M == kStrip && N % 32 == 0, "a strip is made of 32 x 32 blocks");
  static constexpr int kRowSlots = 1;
  static constexpr int kColSlots = N / 2;
  static PA_HOST_DEVICE constexpr int index(int /*s*/, int c) { return c; }
  static PA_HOST_DEVICE constexpr int row(int lane, int /*s*/) { return lane % kStrip; }
  static PA_HOST_DEVICE constexpr int col(int lane, int c) { return c / 4 * 8 + lane / kStrip * 4 + c % 4; }
};

// Order of a 16-row block of the dq scratch (attn/params.h): strips of 8 columns, in which the lanes that hold one row
// slot lie one after the other with their pairs of columns.
struct ScratchLayout {
  static PA_HOST_DEVICE constexpr int offset(int row, int col) {
    return col / 8 * 128 + row % 2 * 64 + col % 8 / 2 * 16 + row / 2 * 2 + col % 2;
  }
};

}  // namespace portattn::gfx942
