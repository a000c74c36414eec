// Launches the backward of short segments.
#include "small_seq/bwd.cuh"

#include "small_seq/bwd_many.cuh"
#include "small_seq/bwd_tiles.cuh"
#include "small_seq/dispatch.cuh"

namespace portattn {
namespace {

constexpr int64_t kMostStashBytes = 64 * 1024;  // of a block

// As many pairs as are promised, or, where that is nothing or too much, none.
int32_t place_stash(SmallSeqParams* params) {
  const int64_t queries = promised_queries(params->attn), keys = params->attn.max_segment_seqlen_kv;
  const int64_t teams = kTeamThreads / params->team_size;
  if (queries == 0 || keys == 0 || queries * keys > kMostStashBytes) return 0;
  const int64_t bytes = teams * PairStash::bytes(static_cast<int32_t>(queries), static_cast<int32_t>(keys));
  if (bytes > kMostStashBytes) return 0;
  params->stash_queries = static_cast<int32_t>(queries);
  params->stash_keys = static_cast<int32_t>(keys);
  return static_cast<int32_t>(bytes);
}

template <class T>
int run_tiles(const AttnParams& p, void* stream) {
  return with_tiles(p, promised_queries(p), [&](auto rows, auto head_dim) {
    return launch_tiles<SmallSeqBwdTiles<T, decltype(rows)::value, decltype(head_dim)::value>>(p, stream);
  });
}

template <class T, int kVecs>
int run(const AttnParams& p, void* stream) {
  if constexpr (sizeof(T) == 2) {
    if (fits_tiles(p) && promised_queries(p) <= kMostTileRows) return run_tiles<T>(p, stream);
  }
  SmallSeqParams params = small_seq_params(p, team_size_for<T, kVecs>(p));
  if constexpr (kWarpSize == 1 || kVecs <= 2) {  // wider slices of many rows do not fit the registers
    if (has_many_queries(p)) {
      const int32_t smem_bytes = place_stash(&params);
      return launch_units<SmallSeqBwdMany<T, kVecs>>(params, smem_bytes, stream);
    }
  }
  constexpr int kMost = kWarpSize == 1 || sizeof(T) == 2 ? 16 : 16 / kVecs;
  return with_rows<T, kMost>(p, [&](auto rows) {
    using Kernel = SmallSeqBwd<T, kVecs, decltype(rows)::value>;
    return launch_units<Kernel>(params, Kernel::kSmemBytes, stream);
  });
}

}  // namespace

int launch_small_seq_bwd(const AttnParams& params, DType dtype, void* stream) {
  const auto launch = [&](auto element, auto vectors) {
    return run<decltype(element), decltype(vectors)::value>(params, stream);
  };
  if constexpr (kWarpSize == 1) return with_row_slice<8>(params, dtype, launch);
  // Sums over teams are shorter with two vectors of a row a lane; with one, 16 keys and values fit the registers.
  const int32_t keys = params.max_segment_seqlen_kv;
  const bool is_short = keys > 0 && keys <= 8;
  return is_short || has_many_queries(params) ? with_row_slice<2>(params, dtype, launch)
                                              : with_row_slice<1>(params, dtype, launch);
}

}  // namespace portattn
