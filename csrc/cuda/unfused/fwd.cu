// Launches the fallback's forward.
#include "unfused/fwd.cuh"

#include "device/dispatch.cuh"

namespace portattn {

int launch_unfused_fwd(const AttnParams& params, DType dtype, void* stream) {
  return with_dtype(dtype, [&](auto element) { return run_unfused_fwd<decltype(element)>(params, stream); });
}

}  // namespace portattn
