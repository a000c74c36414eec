// From run-time facts to a kernel instance: whether a key head serves one query or several, whether lanes or tiles
// compute them, how many 16-byte vectors of a row a lane owns and how many keys it keeps, or how large the tiles are.
#pragma once

#include "device/dispatch.cuh"
#include "small_seq/unit.cuh"
#include "tile/arch_select.cuh"

namespace portattn {

// Rows of a unit that the caller's promise speaks of; 0 = unknown.
inline int64_t promised_queries(const AttnParams& p) {
  return int64_t{p.max_segment_seqlen_q} * (p.num_heads_q / p.num_heads_kv);
}

// Whether units have several queries, as far as is known.
inline bool has_many_queries(const AttnParams& p) {
  return p.num_heads_q != p.num_heads_kv || p.max_segment_seqlen_q > 1;
}

// Calls f(count) with the fewest of 4, 8 and `most` keys that hold the promised number. Of fp32, which is not what this
// backend is tuned for, and on the host there is only `most`.
template <class T, int kMost, class F>
int with_rows(const AttnParams& p, F f) {
  if constexpr (kWarpSize > 1 && sizeof(T) == 2) {
    const int32_t promised = p.max_segment_seqlen_kv;
    if (promised > 0 && promised <= 4) return f(std::integral_constant<int, 4>());
    if constexpr (kMost > 8) {
      if (promised > 0 && promised <= 8) return f(std::integral_constant<int, 8>());
    }
  }
  return f(std::integral_constant<int, kMost>());
}

// Calls f(element, vectors) for a dtype and the vectors of its rows that one lane owns: kLeast, or as many more as the
// longest rows need.
template <int kLeast, class F>
int with_row_slice(const AttnParams& p, DType dtype, F f) {
  return with_dtype(dtype, [&](auto element) {
    using T = decltype(element);
    if constexpr (std::is_same_v<T, double>) {
      return kUnknownDType;
    } else {
      constexpr int kMore = kWarpSize == 1 ? 32 : 2;
      constexpr int kMost = ceil_div(kSmallSeqWideHeadDim / Vec16<T>::kSize, kWarpSize);
      const int32_t vectors = ceil_div(max_of(p.head_dim_qk, p.head_dim_v), Vec16<T>::kSize);
      if (vectors <= kLeast * kWarpSize) return f(element, std::integral_constant<int, kLeast>());
      if constexpr (kMost > kMore) {
        if (vectors > kMore * kWarpSize) return f(element, std::integral_constant<int, kMost>());
      }
      if constexpr (kMost >= kMore && kMore > kLeast) return f(element, std::integral_constant<int, kMore>());
      return kLaunchTooLarge;
    }
  });
}

// The fewest lanes, a power of two, that own a row of T with kVecs vectors each.
template <class T, int kVecs>
int32_t team_size_for(const AttnParams& p) {
  const int32_t vectors = ceil_div(max_of(p.head_dim_qk, p.head_dim_v), Vec16<T>::kSize);
  int32_t size = 1;
  while (size * kVecs < vectors) size *= 2;
  return size;
}

inline SmallSeqParams small_seq_params(const AttnParams& p, int32_t team_size) {
  SmallSeqParams params;
  params.attn = p;
  params.team_size = team_size;
  const int32_t segments = p.batch + (p.q_side.is_thd || p.kv_side.is_thd ? 1 : 0);  // and the rows before the first
  params.num_units = segments * p.num_heads_kv;
  params.heads_kv = make_fast_divisor(static_cast<uint32_t>(p.num_heads_kv));
  params.group = make_fast_divisor(static_cast<uint32_t>(p.num_heads_q / p.num_heads_kv));
  return params;
}

// Tiles are for 16-bit elements, which matrix units are made for, in rows up to so long.
constexpr int32_t kTiledHeadDim = Arch::kMaxSmemBytes > 64 * 1024 ? 256 : 128;
constexpr int32_t kMostTileRows = 32;
// Lanes take so many queries and keys at a time. Units of no more are faster there: most of a tile would be empty.
constexpr int32_t kLaneBatch = 4;

// Whether units of several queries go to tiles, as far as the promise tells.
inline bool fits_tiles(const AttnParams& p) {
  const int64_t queries = promised_queries(p), keys = p.max_segment_seqlen_kv;
  const bool is_tiny = queries > 0 && queries <= kLaneBatch && keys > 0 && keys <= kLaneBatch;
  return has_many_queries(p) && !is_tiny && keys <= kMostTileRows &&
         max_of(p.head_dim_qk, p.head_dim_v) <= kTiledHeadDim;
}

// Calls f(rows, head_dim) for the smallest tiles that hold the promised keys, and so many queries at a time (0 =
// unknown).
template <class F>
int with_tiles(const AttnParams& p, int64_t queries, F f) {
  const int32_t keys = p.max_segment_seqlen_kv, dim = max_of(p.head_dim_qk, p.head_dim_v);
  const auto with_dim = [&](auto rows) {
    if (dim <= 64) return f(rows, std::integral_constant<int, 64>());
    if (dim <= 128) return f(rows, std::integral_constant<int, 128>());
    return f(rows, std::integral_constant<int, kTiledHeadDim>());
  };
  const bool is_small = queries > 0 && queries <= 16 && keys > 0 && keys <= 16;
  return is_small ? with_dim(std::integral_constant<int, 16>())
                  : with_dim(std::integral_constant<int, kMostTileRows>());
}

template <class Kernel>
int launch_units(SmallSeqParams params, int32_t smem_bytes, void* stream) {
  params.padding_blocks = Kernel::padding_blocks(params.attn);
  return launch<Kernel>(params, Kernel::Walk::grid(params), static_cast<size_t>(smem_bytes), stream);
}

template <class Kernel>
int launch_tiles(const AttnParams& p, void* stream) {
  return launch_units<Kernel>(small_seq_params(p, kWarpSize), Kernel::kSmemBytes, stream);
}

}  // namespace portattn
