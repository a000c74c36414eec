// The only architecture switch. Every arch folder gives the same names:
//   traits.cuh  Arch: kWarpSize, AccLayout, ResultLayout, SmemLayout, SmemType, row_reduce, ScratchLayout,
//               TransposedScratchLayout
//   layout.cuh  lane maps, shared memory and scratch layouts, constexpr
//   copy.cuh    load_tile_async, gather_tile_async, load_vector_async, copy_commit, copy_wait, store_tile,
//               scatter_tile, add_to_scratch
//   mma.cuh     mma_nt, mma_nn, mma_tn, mma_rn, store_acc
#pragma once

#if defined(PORTATTN_TARGET_HOST)
#include "arch/host/copy.cuh"
#include "arch/host/mma.cuh"
#include "arch/host/traits.cuh"
namespace portattn {
using namespace host;
}
#elif defined(PORTATTN_TARGET_HIP)
#include "arch/gfx942/copy.cuh"
#include "arch/gfx942/mma.cuh"
#include "arch/gfx942/traits.cuh"
namespace portattn {
using namespace gfx942;
}
#else
#include "arch/sm80/copy.cuh"
#include "arch/sm80/mma.cuh"
#include "arch/sm80/traits.cuh"
namespace portattn {
using namespace sm80;
}
#endif
