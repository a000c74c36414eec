// What the proofs of every arch's lane maps share. A failed one is printed and counted.
#pragma once

#include <cstdio>
#include <set>

namespace portattn {

inline int failures = 0;

inline void expect(bool condition, const char* what, int m, int n) {
  if (condition) return;
  std::printf("%s fails for %d x %d\n", what, m, n);
  ++failures;
}

// Every (lane, register) holds its own element, and together they hold all M x N; registers are numbered 0..size-1.
template <template <int, int> class AccLayout, int M, int N>
void prove_accumulator(int lanes, const char* name) {
  using Layout = AccLayout<M, N>;
  std::set<int> elements, registers;
  for (int lane = 0; lane < lanes; ++lane) {
    for (int s = 0; s < Layout::kRowSlots; ++s) {
      for (int c = 0; c < Layout::kColSlots; ++c) {
        const int row = Layout::row(lane, s), col = Layout::col(lane, c);
        expect(row >= 0 && row < M && col >= 0 && col < N, name, M, N);
        expect(col == Layout::col(lane, 0) + Layout::col(0, c), name, lane, c);
        elements.insert(row * N + col);
        registers.insert(Layout::index(s, c));
      }
    }
  }
  expect(static_cast<int>(elements.size()) == M * N, name, M, N);
  const int size = Layout::kRowSlots * Layout::kColSlots;
  expect(size * lanes == M * N, name, M, N);
  expect(static_cast<int>(registers.size()) == size && *registers.begin() == 0 && *registers.rbegin() == size - 1, name,
         M, N);
}

template <class Layout, int Cols>
void prove_bijection(const char* name) {
  constexpr int kRows = 64;
  std::set<int> offsets;
  for (int row = 0; row < kRows; ++row) {
    for (int col = 0; col < Cols; ++col) offsets.insert(Layout::offset(row, col));
  }
  expect(static_cast<int>(offsets.size()) == kRows * Cols && *offsets.begin() == 0 &&
             *offsets.rbegin() == kRows * Cols - 1,
         name, kRows, Cols);
}

// The scratch of dq: a bijection on 16 rows of any head dim, in which columns 2c and 2c + 1 are neighbours.
template <class Layout>
void prove_scratch(const char* name) {
  for (int cols = 8; cols <= 256; cols += 8) {
    std::set<int> offsets;
    for (int row = 0; row < 16; ++row) {
      for (int col = 0; col < cols; ++col) {
        offsets.insert(Layout::offset(row, col));
        expect(Layout::offset(row, col) == Layout::offset(row, col & ~1) + col % 2, name, row, col);
      }
    }
    expect(static_cast<int>(offsets.size()) == 16 * cols && *offsets.rbegin() == 16 * cols - 1, name, 16, cols);
  }
}

}  // namespace portattn
