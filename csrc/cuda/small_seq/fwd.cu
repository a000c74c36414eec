// Launches the forward of short segments.
#include "small_seq/fwd.cuh"

#include "small_seq/dispatch.cuh"
#include "small_seq/fwd_tiles.cuh"

namespace portattn {
namespace {

// Two vectors of a row a lane, so that sums over a team are short, and two keys at a time, so that many warps fit: on
// an H200 that fills the memory better than more loads in flight from fewer warps. Several queries share what is
// loaded.
constexpr int kVectors = kWarpSize == 1 ? 8 : 2;
constexpr int kKeys = kWarpSize == 1 ? 16 : 2;

template <class T>
int run_tiles(const AttnParams& p, void* stream) {
  constexpr int64_t kAnyQueries = 1;  // taken a tile at a time, however many
  return with_tiles(p, kAnyQueries, [&](auto rows, auto head_dim) {
    return launch_tiles<SmallSeqFwdTiles<T, decltype(rows)::value, decltype(head_dim)::value>>(p, stream);
  });
}

template <class T, int kVecs>
int run(const AttnParams& p, void* stream) {
  if constexpr (sizeof(T) == 2) {
    if (fits_tiles(p)) return run_tiles<T>(p, stream);
  }
  const SmallSeqParams params = small_seq_params(p, team_size_for<T, kVecs>(p));
  constexpr int kQueries = kWarpSize > 1 && kVecs > 2 ? 1 : 4;
  if (has_many_queries(p)) return launch_units<SmallSeqFwd<T, kVecs, 4, kQueries>>(params, 0, stream);
  return launch_units<SmallSeqFwd<T, kVecs, kKeys, 1>>(params, 0, stream);
}

}  // namespace

int launch_small_seq_fwd(const AttnParams& params, DType dtype, void* stream) {
  return with_row_slice<kVectors>(params, dtype, [&](auto element, auto vectors) {
    return run<decltype(element), decltype(vectors)::value>(params, stream);
  });
}

}  // namespace portattn
