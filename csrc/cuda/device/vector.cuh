// Short vectors of consecutive elements: one 16-byte access where the address allows it.
#pragma once

#include "device/types.cuh"

namespace portattn {

// Do all rows of a tensor start at, and consist of, whole pieces of `alignment` bytes?
inline bool rows_aligned(const TensorView& view, int32_t head_dim, int64_t elem_bytes, int64_t alignment) {
  const int64_t strides = view.batch_stride | view.token_stride | view.head_stride | head_dim;
  return (reinterpret_cast<intptr_t>(view.data) | strides * elem_bytes) % alignment == 0;
}

template <class T>
struct alignas(16) Vec16 {
  static constexpr int kSize = 16 / static_cast<int>(sizeof(T));
  T data[kSize];
};

// Elements [0, n) of p, the rest 0; `wide`: p is 16-byte aligned and n a whole vector.
template <class T>
PA_DEVICE Vec16<T> load_vec(const T* p, int n, bool wide) {
  if (wide) return *reinterpret_cast<const Vec16<T>*>(p);
  Vec16<T> v;
  PA_UNROLL
  for (int i = 0; i < Vec16<T>::kSize; ++i) v.data[i] = i < n ? p[i] : from_acc<T>(0.f);
  return v;
}

template <class T>
PA_DEVICE void store_vec(T* p, const Vec16<T>& v, int n, bool wide) {
  if (wide) {
    *reinterpret_cast<Vec16<T>*>(p) = v;
    return;
  }
  PA_UNROLL
  for (int i = 0; i < Vec16<T>::kSize; ++i) {
    if (i < n) p[i] = v.data[i];
  }
}

}  // namespace portattn
