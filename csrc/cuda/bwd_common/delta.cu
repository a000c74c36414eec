// Launches the reduction of do * o.
#include "bwd_common/delta.cuh"

#include "device/dispatch.cuh"

namespace portattn {

int launch_delta(const AttnParams& params, DType dtype, void* stream) {
  return with_dtype(dtype, [&](auto element) { return run_delta<decltype(element)>(params, stream); });
}

}  // namespace portattn
