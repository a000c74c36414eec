// Launches the fallback's backward.
#include "unfused/bwd.cuh"

#include "device/dispatch.cuh"

namespace portattn {

int launch_unfused_bwd(const AttnParams& params, DType dtype, void* stream) {
  return with_dtype(dtype, [&](auto element) { return run_unfused_bwd<decltype(element)>(params, stream); });
}

}  // namespace portattn
