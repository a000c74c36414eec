// Launches the gradient of the learnable sink.
#include "bwd_common/sink_grad.cuh"

namespace portattn {

int launch_sink_grad(const AttnParams& params, void* stream) {
  return launch<SinkGradKernel>(params, Grid{params.num_heads_q, 1}, SinkGradKernel::kSmemBytes, stream);
}

}  // namespace portattn
