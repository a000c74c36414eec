// Launches the conversion of dq_accum.
#include "bwd_common/convert_dq.cuh"

#include "device/dispatch.cuh"

namespace portattn {

int launch_convert_dq(const AttnParams& params, DType dtype, void* stream) {
  return with_dtype(dtype, [&](auto element) { return run_convert_dq<decltype(element)>(params, stream); });
}

}  // namespace portattn
