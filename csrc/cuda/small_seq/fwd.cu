// Launches the forward of short segments.
#include "small_seq/fwd.cuh"

#include "small_seq/dispatch.cuh"

namespace portattn {
namespace {

// Several queries share the keys that are in registers, so fewer of each are kept.
template <class T, int kVecs>
int run(const AttnParams& p, void* stream) {
  const SmallSeqParams params = small_seq_params(p, team_size_for<T, kVecs>(p));
  constexpr int kQueries = kWarpSize > 1 && kVecs > 2 ? 1 : 4, kMost = kWarpSize == 1 ? 16 : 16 / kVecs;
  if (has_many_queries(p)) return launch_units<SmallSeqFwd<T, kVecs, 4, kQueries>>(params, 0, stream);
  return with_rows<T, kMost>(
      p, [&](auto rows) { return launch_units<SmallSeqFwd<T, kVecs, decltype(rows)::value, 1>>(params, 0, stream); });
}

}  // namespace

int launch_small_seq_fwd(const AttnParams& params, DType dtype, void* stream) {
  return with_row_slice(params, dtype, [&](auto element, auto vectors) {
    return run<decltype(element), decltype(vectors)::value>(params, stream);
  });
}

}  // namespace portattn
