// From run-time facts to a kernel instance: how many 16-byte vectors of a row a lane owns, and how many keys it keeps.
#pragma once

#include "device/dispatch.cuh"
#include "small_seq/unit.cuh"

namespace portattn {

template <class Kernel>
int launch_units(const AttnParams& p, int32_t team_size, void* stream) {
  const int64_t segments = int64_t{p.batch} + (p.q_side.is_thd || p.kv_side.is_thd ? 1 : 0);  // and the leading gap
  const int64_t units = segments * p.num_heads_kv;
  if (units > INT32_MAX) return kLaunchTooLarge;
  const SmallSeqParams params{p, team_size, static_cast<int32_t>(units),
                              make_fast_divisor(static_cast<uint32_t>(p.num_heads_kv)),
                              make_fast_divisor(static_cast<uint32_t>(p.num_heads_q / p.num_heads_kv))};
  return launch<Kernel>(params, UnitWalk::grid(params), 0, stream);
}

// The fewest lanes, a power of two, that own `vectors` with kVecs each.
template <int kVecs>
int32_t team_size_for(int32_t vectors) {
  int32_t size = 1;
  while (size * kVecs < vectors) size *= 2;
  return size;
}

// Keys that are kept: the fewest that hold the promised number, as far as registers go. Of fp32, which is not what this
// backend is tuned for, only the largest number is built.
template <template <class, int, int> class Kernel, class T, int kVecs>
int launch_with_rows(const AttnParams& p, int32_t vectors, void* stream) {
  constexpr int kMost = kWarpSize == 1 ? 16 : (sizeof(T) == 2 ? 16 : 16 / kVecs);
  const int32_t team_size = team_size_for<kVecs>(vectors);
  if constexpr (kWarpSize > 1 && sizeof(T) == 2) {
    const int32_t promised = p.max_segment_seqlen_kv;
    if (promised > 0 && promised <= 4) return launch_units<Kernel<T, kVecs, 4>>(p, team_size, stream);
    if (promised > 0 && promised <= 8) return launch_units<Kernel<T, kVecs, 8>>(p, team_size, stream);
  }
  return launch_units<Kernel<T, kVecs, kMost>>(p, team_size, stream);
}

template <template <class, int, int> class Kernel, class T>
int launch_with_vectors(const AttnParams& p, void* stream) {
  const int32_t vectors = ceil_div(max_of(p.head_dim_qk, p.head_dim_v), Vec16<T>::kSize);
  constexpr int kMost = ceil_div(kSmallSeqWideHeadDim / Vec16<T>::kSize, kWarpSize);  // for the widest rows
  constexpr int kFew = kWarpSize == 1 ? 8 : 1, kMore = kWarpSize == 1 ? 32 : 2;
  if (vectors <= kFew * kWarpSize) return launch_with_rows<Kernel, T, kFew>(p, vectors, stream);
  if constexpr (kMost > kMore) {
    if (vectors > kMore * kWarpSize) return launch_with_rows<Kernel, T, kMost>(p, vectors, stream);
  }
  if constexpr (kMost >= kMore) return launch_with_rows<Kernel, T, kMore>(p, vectors, stream);
  return kLaunchTooLarge;
}

template <template <class, int, int> class Kernel>
int launch_small_seq(const AttnParams& p, DType dtype, void* stream) {
  return with_dtype(dtype, [&](auto element) {
    using T = decltype(element);
    if constexpr (std::is_same_v<T, double>) {
      return kUnknownDType;
    } else {
      return launch_with_vectors<Kernel, T>(p, stream);
    }
  });
}

}  // namespace portattn
