// The model's counterpart: a product is made by the last thread of the warpgroup that asks for it, element by element
// where descriptors and the lane maps of accumulators and operands say it is.
#pragma once

#include "arch/sm80/layout.cuh"
#include "arch/sm90/descriptor.cuh"
#include "arch/sm90/tma.cuh"

namespace portattn::sm90 {

inline void wgmma_fence() {}
inline void wgmma_commit() {}
template <int Pending>
void wgmma_wait() {
  model::give_way();
}
template <int Size>
void pin(float (&)[Size]) {}

// Element i along m or n, and k, of an operand in shared memory.
template <class T>
float element(uint64_t descriptor, int i, int k, bool transposed) {
  const uint32_t start = (descriptor & 0x3fff) << 4, slab = (descriptor >> 16 & 0x3fff) << 4;
  const uint32_t group = (descriptor >> 32 & 0x3fff) << 4;
  const uint32_t address = transposed ? start + i / 64 * slab + k / 8 * group + k % 8 * kSlabBytes + i % 64 * 2
                                      : start + i / 8 * group + i % 8 * kSlabBytes + k * 2;
  T x;
  std::memcpy(&x, model::block().smem + swizzled(address), sizeof(x));
  return to_float(x);
}

// Element (i, k) of an operand that its warpgroup holds in registers.
template <class T>
float element(const model::Warpgroup& group, int i, int k) {
  for (int r = 0; r < 4; ++r) {
    const int lane = i % 8 * 4 + k % 8 / 2;
    if (sm80::FragA::row(lane, r) != i % 16 || sm80::FragA::k(lane, r, k % 2) != k) continue;
    T pair[2];
    std::memcpy(pair, &group.operands[i / 16 * 32 + lane][r], sizeof(pair));
    return to_float(pair[k % 2]);
  }
  model::broken("an operand that nobody has");
}

template <class T, int N, class A>
void multiply(const model::Warpgroup& group, A element_of_a, uint64_t b, int accumulate, int trans_b) {
  using Layout = sm80::AccLayout<16, N>;
  static float rows[64][16], columns[N][16];
  for (int k = 0; k < 16; ++k) {
    for (int m = 0; m < 64; ++m) rows[m][k] = element_of_a(m, k);
    for (int n = 0; n < N; ++n) columns[n][k] = element<T>(b, n, k, trans_b != 0);
  }
  for (int thread = 0; thread < 128; ++thread) {
    for (int s = 0; s < Layout::kRowSlots; ++s) {
      for (int c = 0; c < Layout::kColSlots; ++c) {
        const float* row = rows[thread / 32 * 16 + Layout::row(thread % 32, s)];
        const float* column = columns[Layout::col(thread % 32, c)];
        float& sum = group.accumulators[thread][Layout::index(s, c)];
        if (!accumulate) sum = 0.f;
        for (int k = 0; k < 16; ++k) sum += row[k] * column[k];
      }
    }
  }
}

// Calls f(group) when all threads of the warpgroup are here.
template <class F>
void together(float* accumulators, const uint32_t* operand, F f) {
  model::Warpgroup& group = model::block().groups[model::thread().tid / 128];
  const int thread = model::thread().tid % 128;
  group.accumulators[thread] = accumulators;
  group.operands[thread] = operand;
  if (group.count == 127) f(group);
  model::meet(group, 128);
}

template <int TransB, int TransA = 0, int Size, class T>
void wgmma(float (&d)[Size], uint64_t a, uint64_t b, int accumulate, T) {
  together(d, nullptr, [&](const model::Warpgroup& group) {
    const auto element_of_a = [&](int m, int k) { return element<T>(a, m, k, TransA != 0); };
    multiply<T, 2 * Size>(group, element_of_a, b, accumulate, TransB);
  });
}
template <int TransB, int Size, class T>
void wgmma(float (&d)[Size], const uint32_t (&a)[4], uint64_t b, int accumulate, T) {
  together(d, a, [&](const model::Warpgroup& group) {
    const auto element_of_a = [&](int m, int k) { return element<T>(group, m, k); };
    multiply<T, 2 * Size>(group, element_of_a, b, accumulate, TransB);
  });
}

inline void store_matrices(uint32_t address, const uint32_t (&x)[4]) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    const uint32_t row = model::exchange(address, matrix * 8 + model::lane() / 4);
    // Addresses are swizzled by whoever computes them.
    std::memcpy(model::block().smem + row + model::lane() % 4 * 4, &x[matrix], 4);
  }
}

inline void store_matrices_transposed(uint32_t address, const uint32_t (&x)[4]) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    for (int i = 0; i < 2; ++i) {
      const uint32_t row = model::exchange(address, matrix * 8 + model::lane() % 4 * 2 + i);
      const auto element = static_cast<uint16_t>(x[matrix] >> 16 * i);
      std::memcpy(model::block().smem + row + model::lane() / 4 * 2, &element, 2);
    }
  }
}

inline float2 load_pair(const float* pair) { return {pair[0], pair[1]}; }

}  // namespace portattn::sm90
