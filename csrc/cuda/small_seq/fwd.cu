// Launches the forward of short segments.
#include "small_seq/fwd.cuh"

#include "small_seq/dispatch.cuh"

namespace portattn {

int launch_small_seq_fwd(const AttnParams& params, DType dtype, void* stream) {
  return launch_small_seq<SmallSeqFwd>(params, dtype, stream);
}

}  // namespace portattn
