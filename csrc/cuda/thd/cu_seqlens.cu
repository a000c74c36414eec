// Launches the kernels of cu_seqlens.cuh: for segment ids a block for each row and side, then blocks that sum.
#include "thd/cu_seqlens.cuh"

namespace portattn {
namespace {

// Few enough segments a block that all multiprocessors help, and enough that lengths are not read too often; on the
// host, where nothing is gained by reading twice, all of them.
int launch_sums(const CuSeqlensParams& params, void* stream) {
  constexpr int64_t kMostBlocks = kWarpSize == 1 ? 1 : 128, kRound = CuSeqlensKernel::kThreads;
  const int64_t count = max_of(params.q.rows * params.q.segments, params.kv.rows * params.kv.segments);
  const int64_t chunk = max_of<int64_t>(ceil_div(count, kMostBlocks * kRound), 1) * kRound;
  const CuSeqlensKernel::Params all{params, make_fast_divisor(static_cast<uint32_t>(params.q.segments)),
                                    make_fast_divisor(static_cast<uint32_t>(params.kv.segments)), chunk};
  const Grid grid{max_of<int64_t>(ceil_div(count, chunk), 1), 2};
  return launch<CuSeqlensKernel>(all, grid, CuSeqlensKernel::kSmemBytes, stream);
}

}  // namespace

int launch_cu_seqlens(const CuSeqlensParams& params, void* stream) {
  const int64_t rows_q = params.q.segment_ids != nullptr ? params.q.rows : 0;
  const int64_t rows_kv = params.kv.segment_ids != nullptr ? params.kv.rows : 0;
  const int64_t rows = max_of(rows_q, rows_kv);
  if (rows > 0) {
    const int error = launch<SegmentRunsKernel>(params, Grid{rows, 2}, 0, stream);
    if (error != 0) return error;
  }
  return launch_sums(params, stream);
}

}  // namespace portattn
