// The pipelines of gfx942, without the tables and launchers of the library.
#include "fmha/kernel_bwd_resident.cuh"
#include "fmha/kernel_fwd_pingpong.cuh"

namespace portattn {

struct fwd_64 : FmhaFwdPingpong<bf16, 64> {};
struct fwd_128 : FmhaFwdPingpong<bf16, 128> {};
struct bwd_64 : FmhaBwdResident<bf16, 64> {};
struct bwd_128 : FmhaBwdResident<bf16, 128> {};

#define PIPELINE(name)                                                                                             \
  extern "C" __device__ int name##_facts[3] = {name::kThreads, name::kPlannedRows, name::kSmemBytes};              \
  extern "C" __global__ void __launch_bounds__(name::kThreads, kLaunchBound<name>) run_##name(AttnParams params) { \
    extern __shared__ __align__(1024) char smem[];                                                                 \
    name{}(params, BlockCtx{static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(blockIdx.y),                    \
                            static_cast<int32_t>(gridDim.x), static_cast<int32_t>(threadIdx.x), smem});            \
  }
PIPELINE(fwd_64)
PIPELINE(fwd_128)
PIPELINE(bwd_64)
PIPELINE(bwd_128)

}  // namespace portattn
