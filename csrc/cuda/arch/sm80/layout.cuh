// sm_80 and later: lane maps of mma.sync m16n8k16 and the XOR swizzle of shared tiles.
// Source of the lane maps: PTX ISA, "Matrix Fragments for mma.m16n8k16",
// https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-fragment-mma-16816-float
#pragma once

#include "device/types.cuh"

namespace portattn::sm80 {

// Accumulators of an M x N tile: 16 x 8 blocks of 4 elements a lane, rows lane / 4 and lane / 4 + 8.
template <int M, int N>
struct AccLayout {
  static_assert(M % 16 == 0 && N % 8 == 0, "an accumulator tile is made of 16 x 8 blocks");
  static constexpr int kRowSlots = M / 16 * 2;
  static constexpr int kColSlots = N / 8 * 2;
  static PA_HOST_DEVICE constexpr int index(int s, int c) {
    return ((s / 2) * (N / 8) + c / 2) * 4 + (s % 2) * 2 + c % 2;
  }
  static PA_HOST_DEVICE constexpr int row(int lane, int s) { return s / 2 * 16 + s % 2 * 8 + lane / 4; }
  static PA_HOST_DEVICE constexpr int col(int lane, int c) { return c / 2 * 8 + lane % 4 * 2 + c % 2; }
};

// Operand fragments of one m16n8k16: which element does half e of register r of a lane hold.
struct FragA {  // A is 16 x 16, 4 registers of 2 elements
  static PA_HOST_DEVICE constexpr int row(int lane, int r) { return lane / 4 + r % 2 * 8; }
  static PA_HOST_DEVICE constexpr int k(int lane, int r, int e) { return lane % 4 * 2 + r / 2 * 8 + e; }
};
struct FragB {  // B is 16 x 8 (k x n), 2 registers of 2 elements
  static PA_HOST_DEVICE constexpr int col(int lane, int /*r*/) { return lane / 4; }
  static PA_HOST_DEVICE constexpr int k(int lane, int r, int e) { return lane % 4 * 2 + r * 8 + e; }
};

// ldmatrix.x4 reads four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8. These say where that
// row starts (in the shared tile, relative to the fragment's corner) for each kind of fragment.
struct LdmatrixA {  // A[m, k]: matrices (m0 k0) (m8 k0) (m0 k8) (m8 k8)
  static PA_HOST_DEVICE constexpr int row(int lane) { return lane % 16; }
  static PA_HOST_DEVICE constexpr int col(int lane) { return lane / 16 * 8; }
};
struct LdmatrixTransA {  // A stored [k, m], read with .trans: (k0 m0) (k0 m8) (k8 m0) (k8 m8)
  static PA_HOST_DEVICE constexpr int row(int lane) { return lane % 8 + lane / 16 * 8; }
  static PA_HOST_DEVICE constexpr int col(int lane) { return lane / 8 % 2 * 8; }
};
struct LdmatrixB {  // B stored [n, k], two n8 fragments: (n0 k0) (n0 k8) (n8 k0) (n8 k8)
  static PA_HOST_DEVICE constexpr int row(int lane) { return lane % 8 + lane / 16 * 8; }
  static PA_HOST_DEVICE constexpr int col(int lane) { return lane / 8 % 2 * 8; }
};
struct LdmatrixTransB {  // B stored [k, n], read with .trans: (k0 n0) (k8 n0) (k0 n8) (k8 n8)
  static PA_HOST_DEVICE constexpr int row(int lane) { return lane % 16; }
  static PA_HOST_DEVICE constexpr int col(int lane) { return lane / 16 * 8; }
};

// Row-major tile whose 16-byte chunks are permuted inside each row, so that 8 rows of one logical chunk column lie in
// 8 different bank groups. The permutation depends on row % 8 only.
template <class T, int Cols>
struct SmemLayout {
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(T));  // elements of 16 bytes
  static constexpr int kChunks = Cols / kChunk;
  static_assert(Cols % kChunk == 0, "rows are whole 16-byte chunks");
  static PA_HOST_DEVICE constexpr int swizzle(int row) {
    if (kChunks % 8 == 0) return row % 8;
    if (kChunks % 4 == 0) return row / 2 % 4;
    if (kChunks % 2 == 0) return row / 4 % 2;
    return 0;
  }
  static PA_HOST_DEVICE constexpr int chunk_offset(int row, int chunk) {
    return row * Cols + (chunk ^ swizzle(row)) * kChunk;
  }
  static PA_HOST_DEVICE constexpr int offset(int row, int col) {
    return chunk_offset(row, col / kChunk) + col % kChunk;
  }
};

// Order of a 16-row block of the dq scratch (attn/params.h): 16 x 8 accumulator blocks one after the other, each with
// the four elements of a lane together, so that a warp adds 512 contiguous bytes. Columns 2c and 2c + 1 are neighbours.
struct ScratchLayout {
  static PA_HOST_DEVICE constexpr int offset(int row, int col) {
    return col / 8 * 128 + (row % 8 * 4 + col % 8 / 2) * 4 + row / 8 * 2 + col % 2;
  }
};

// The same of 16 x 8 accumulator blocks of the transpose, columns in rows: of 16 columns first rows 0 to 7.
struct TransposedScratchLayout {
  static PA_HOST_DEVICE constexpr int offset(int row, int col) {
    return col / 16 * 256 + row / 8 * 128 + ScratchLayout::offset(col % 16, row % 8);
  }
};

}  // namespace portattn::sm80
