// Launches the two kernels of cu_seqlens.cuh: a block for each row and side, then a block for each side.
#include "thd/cu_seqlens.cuh"

namespace portattn {

int launch_cu_seqlens(const CuSeqlensParams& params, void* stream) {
  const int64_t rows_q = params.q.segment_ids != nullptr ? params.q.rows : 0;
  const int64_t rows_kv = params.kv.segment_ids != nullptr ? params.kv.rows : 0;
  const int64_t rows = rows_q > rows_kv ? rows_q : rows_kv;
  if (rows > 0) {
    const int error = launch<SegmentRunsKernel>(params, Grid{rows, 2}, 0, stream);
    if (error != 0) return error;
  }
  return launch<CuSeqlensKernel>(params, Grid{2, 1}, sizeof(CuSeqlensKernel::Shared), stream);
}

}  // namespace portattn
