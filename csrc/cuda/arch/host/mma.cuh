// Host arch: register-blocked products on compiler vectors, acc[M, N] += A . B.
//
// The micro-kernel keeps kRows x kVectors vector accumulators in registers and streams K; B is row-major [K, N] in
// memory, A is broadcast element by element from either orientation. mma_nt transposes B into a scratch panel first:
// K * N moves against M * K * N multiply-adds.
#pragma once

#include <cstddef>

#include "device/types.cuh"

namespace portattn::host {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kAccVectors = 16;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kAccVectors = 8;
#else
constexpr int kVectorBytes = 16;
constexpr int kAccVectors = 8;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes), aligned(sizeof(T)), may_alias));
};

constexpr int vectors_per_row(int n, int lanes) { return n % (4 * lanes) == 0 ? 4 : n % (2 * lanes) == 0 ? 2 : 1; }

// One Rows x (Vectors * lanes) corner of acc.
template <class T, int Rows, int Vectors>
PA_DEVICE void micro_kernel(T* acc, int acc_stride, const T* a, ptrdiff_t a_row, ptrdiff_t a_col, const T* b,
                            int b_stride, int depth) {
  using Vec = typename VectorOf<T>::type;
  constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  Vec c[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) c[r][v] = *reinterpret_cast<const Vec*>(acc + r * acc_stride + v * kLanes);
  }
  for (int k = 0; k < depth; ++k) {
    Vec bv[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) bv[v] = *reinterpret_cast<const Vec*>(b + k * b_stride + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const T x = a[r * a_row + k * a_col];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) c[r][v] += x * bv[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) *reinterpret_cast<Vec*>(acc + r * acc_stride + v * kLanes) = c[r][v];
  }
}

// acc[M, N] += A . B; element (m, k) of A is a[m * a_row + k * a_col], B is [depth, N] with row stride b_stride.
template <class T, int M, int N>
inline void gemm(T* acc, const T* a, ptrdiff_t a_row, ptrdiff_t a_col, const T* b, int b_stride, int depth) {
  constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  constexpr int kVectors = vectors_per_row(N, kLanes);
  constexpr int kRows = kAccVectors / kVectors < M ? kAccVectors / kVectors : M;
  constexpr int kCols = kVectors * kLanes;
  static_assert(N % kCols == 0 && M % kRows == 0, "tile sizes are multiples of the micro-kernel's");
  for (int n = 0; n < N; n += kCols) {
    for (int m = 0; m < M; m += kRows) {
      micro_kernel<T, kRows, kVectors>(acc + m * N + n, N, a + m * a_row, a_row, a_col, b + n, b_stride, depth);
    }
  }
}

// out[K, N] = in[N, K]^T, in blocks that stay in the vector registers.
template <class T, int K, int N>
inline void transpose(T* out, const T* in, int in_stride) {
  constexpr int kBlock = 8;
  static_assert(K % kBlock == 0 && N % kBlock == 0, "tile sizes are multiples of 8");
  for (int n = 0; n < N; n += kBlock) {
    for (int k = 0; k < K; k += kBlock) {
      T block[kBlock][kBlock];
#pragma GCC unroll 8
      for (int i = 0; i < kBlock; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < kBlock; ++j) block[j][i] = in[(n + i) * in_stride + k + j];
      }
#pragma GCC unroll 8
      for (int j = 0; j < kBlock; ++j) {
#pragma GCC unroll 8
        for (int i = 0; i < kBlock; ++i) out[(k + j) * N + n + i] = block[j][i];
      }
    }
  }
}

template <class Acc, class A, class B>
PA_DEVICE void mma_nt(Acc& acc, A a, int a_row, B b, int b_row, int /*lane*/) {
  using T = typename Acc::Value;
  static_assert(A::kCols == B::kCols, "A and B share K");
  alignas(64) T panel[B::kCols * Acc::kN];
  transpose<T, B::kCols, Acc::kN>(panel, b.data + b_row * B::kCols, B::kCols);
  gemm<T, Acc::kM, Acc::kN>(acc.data, a.data + a_row * A::kCols, A::kCols, 1, panel, Acc::kN, A::kCols);
}

template <class Acc, class A, class B>
PA_DEVICE void mma_nn(Acc& acc, A a, int a_row, B b, int b_col, int /*lane*/) {
  static_assert(A::kCols == B::kRows, "A and B share K");
  gemm<typename Acc::Value, Acc::kM, Acc::kN>(acc.data, a.data + a_row * A::kCols, A::kCols, 1, b.data + b_col,
                                              B::kCols, A::kCols);
}

template <class Acc, class A, class B>
PA_DEVICE void mma_tn(Acc& acc, A a, int a_col, B b, int b_col, int /*lane*/) {
  static_assert(A::kRows == B::kRows, "A and B share K");
  gemm<typename Acc::Value, Acc::kM, Acc::kN>(acc.data, a.data + a_col, 1, A::kCols, b.data + b_col, B::kCols,
                                              A::kRows);
}

template <class Acc, class P, class Staging, class B>
PA_DEVICE void mma_rn(Acc& acc, const P& p, Staging /*staging*/, int /*row*/, B b, int b_col, int /*lane*/) {
  static_assert(P::kN == B::kRows, "P and B share K");
  gemm<typename Acc::Value, Acc::kM, Acc::kN>(acc.data, p.data, P::kN, 1, b.data + b_col, B::kCols, P::kN);
}

template <class Smem, class Tile>
PA_DEVICE void store_acc(Smem smem, const Tile& tile, int row, int col, int /*lane*/) {
  for (int r = 0; r < Tile::kM; ++r) {
    for (int c = 0; c < Tile::kN; ++c) smem.at(row + r, col + c) = tile.data[r * Tile::kN + c];
  }
}

}  // namespace portattn::host
