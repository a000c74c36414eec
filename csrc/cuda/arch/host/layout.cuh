// Host arch: row-major accumulators and row-major tiles.
#pragma once

#include "device/types.cuh"

namespace portattn::host {

template <int M, int N>
struct AccLayout {
  static constexpr int kRowSlots = M;
  static constexpr int kColSlots = N;
  static PA_HOST_DEVICE constexpr int index(int s, int c) { return s * N + c; }
  static PA_HOST_DEVICE constexpr int row(int /*lane*/, int s) { return s; }
  static PA_HOST_DEVICE constexpr int col(int /*lane*/, int c) { return c; }
};

// Element offset of (row, col) in a tile of `Cols` columns.
template <class T, int Cols>
struct SmemLayout {
  static PA_HOST_DEVICE constexpr int offset(int row, int col) { return row * Cols + col; }
};

// Order of a 16-row block of the dq scratch (attn/params.h): strips of 8 columns, row-major.
struct ScratchLayout {
  static PA_HOST_DEVICE constexpr int offset(int row, int col) { return col / 8 * 128 + row * 8 + col % 8; }
};

}  // namespace portattn::host
