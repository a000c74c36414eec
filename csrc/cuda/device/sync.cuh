// Block-wide barrier and atomic adds.
#pragma once

#include "device/types.cuh"

namespace portattn {

#if defined(PORTATTN_TARGET_HOST)

PA_DEVICE void block_sync() {}  // a host block is one thread

#else

// All threads of the block arrive and wait; shared memory written before is visible after.
PA_DEVICE void block_sync() { __syncthreads(); }

#endif

}  // namespace portattn
