// Launches the backward of short segments.
#include "small_seq/bwd.cuh"

#include "small_seq/dispatch.cuh"

namespace portattn {

int launch_small_seq_bwd(const AttnParams& params, DType dtype, void* stream) {
  return launch_small_seq<SmallSeqBwd>(params, dtype, stream);
}

}  // namespace portattn
