// Launches the sequence planner: one block for the queries, one for the keys.
#include "thd/seq_plan.cuh"

namespace portattn {

int launch_seq_plan(const SeqPlanParams& params, void* stream) {
  return launch<SeqPlanKernel>(params, Grid{2, 1}, sizeof(SeqPlanKernel::Shared), stream);
}

}  // namespace portattn
