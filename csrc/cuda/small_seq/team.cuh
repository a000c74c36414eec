// A team of lanes shares the rows of one head: lane l owns the 16-byte vectors l, l + size, ... of every row.
// Neighbouring teams take neighbouring heads, so a warp reads and writes consecutive memory.
#pragma once

#include "device/math.cuh"
#include "device/sync.cuh"
#include "device/vector.cuh"
#include "device/warp.cuh"

namespace portattn {

// `size` is a power of two, at most a warp.
struct Team {
  int lane, size;

  PA_DEVICE Team(int team_size, int tid) : lane(tid & (team_size - 1)), size(team_size) {}

  // Each x[i] summed over the team; every lane of the warp must call it, and gets the sums.
  template <int kCount>
  PA_DEVICE void sum(float (&x)[kCount]) const {
    sum<kCount>(&x[0]);
  }
  template <int kCount>
  PA_DEVICE void sum(float* x) const {
    for (int mask = size / 2; mask > 0; mask /= 2) {
      PA_UNROLL
      for (int i = 0; i < kCount; ++i) x[i] += shuffle_xor(x[i], mask);
    }
  }
};

// Largest over the warp, so that loops of all its teams take equally many steps.
PA_DEVICE int32_t warp_max(int32_t x) {
  PA_UNROLL
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) x = max_of(x, shuffle_xor(x, mask));
  return x;
}

// A lane's kVecs vectors of a row, as stored. Vectors beyond the row's end are 0. Kept as words: as 16-bit elements,
// each would take a register of its own.
template <class T, int kVecs>
struct RowSlice {
  static constexpr int kVec = Vec16<T>::kSize;
  static constexpr int kElems = kVecs * kVec;
  Vec16<uint32_t> words[kVecs];

  PA_DEVICE static RowSlice load(const T* row, int32_t dim, const Team& team, bool exists) {
    RowSlice slice{};
    PA_UNROLL
    for (int i = 0; i < kVecs; ++i) {
      const int32_t first = (team.lane + i * team.size) * kVec;
      if (exists && first < dim) slice.words[i] = *reinterpret_cast<const Vec16<uint32_t>*>(row + first);
    }
    return slice;
  }

  // Forgets the elements that were converted so far: kept for later, they would take twice the registers of the words.
  PA_DEVICE void forget() {
    PA_UNROLL
    for (int i = 0; i < kVecs; ++i) {
      PA_UNROLL
      for (uint32_t& word : words[i].data) word = opaque(word);
    }
  }

  PA_DEVICE float operator[](int i) const {
    Vec16<T> elements;
    memcpy(&elements, &words[i / kVec], sizeof(elements));
    return to_float(elements.data[i % kVec]);
  }
};

// The same in float, to compute with.
template <int kElems>
struct FloatSlice {
  float x[kElems];

  PA_DEVICE FloatSlice() : x{} {}

  template <class T, int kVecs>
  PA_DEVICE explicit FloatSlice(const RowSlice<T, kVecs>& row) {
    static_assert(kElems == RowSlice<T, kVecs>::kElems, "the same vectors");
    PA_UNROLL
    for (int i = 0; i < kElems; ++i) x[i] = row[i];
  }

  // This lane's part of the dot product.
  template <class Row>
  PA_DEVICE float dot(const Row& row) const {
    float sum = 0.f;
    PA_UNROLL
    for (int i = 0; i < kElems; ++i) sum += x[i] * row[i];
    return sum;
  }

  PA_DEVICE void scale(float factor) {
    PA_UNROLL
    for (int i = 0; i < kElems; ++i) x[i] *= factor;
  }

  template <class Row>
  PA_DEVICE void add(float factor, const Row& row) {
    PA_UNROLL
    for (int i = 0; i < kElems; ++i) x[i] += factor * row[i];
  }

  PA_DEVICE float operator[](int i) const { return x[i]; }
};

// Stores factor * slice.
template <class T, int kElems>
PA_DEVICE void store_slice(T* row, int32_t dim, const Team& team, float factor, const FloatSlice<kElems>& slice) {
  constexpr int kVec = Vec16<T>::kSize;
  PA_UNROLL
  for (int i = 0; i < kElems / kVec; ++i) {
    const int32_t first = (team.lane + i * team.size) * kVec;
    if (first >= dim) continue;
    Vec16<T> out;
    PA_UNROLL
    for (int e = 0; e < kVec; ++e) out.data[e] = from_acc<T>(factor * slice[i * kVec + e]);
    *reinterpret_cast<Vec16<T>*>(row + first) = out;
  }
}

}  // namespace portattn
