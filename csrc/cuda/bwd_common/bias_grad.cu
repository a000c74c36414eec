// Launches the gradient of the bias.
#include "bwd_common/bias_grad.cuh"

#include "device/dispatch.cuh"

namespace portattn {

int launch_bias_grad(const AttnParams& params, DType dtype, void* stream) {
  return with_dtype(dtype, [&](auto element) { return run_bias_grad<decltype(element)>(params, stream); });
}

}  // namespace portattn
