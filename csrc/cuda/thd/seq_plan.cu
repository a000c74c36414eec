// Launches the sequence planner: one block for the queries, one for the keys; many where no tiles are asked for.
#include "thd/seq_plan.cuh"

#include "thd/span_plan.cuh"

namespace portattn {

int launch_seq_plan(const SeqPlanParams& params, void* stream) {
  if (params.q.tile_rows == 0 && params.kv.tile_rows == 0) return run_span_plan(params, stream);
  return launch<SeqPlanKernel>(params, Grid{2, 1}, sizeof(SeqPlanKernel::Shared), stream);
}

}  // namespace portattn
