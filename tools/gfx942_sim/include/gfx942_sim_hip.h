/* libgfx942_sim_hip.so: a HIP runtime whose one device is the simulator. A program or library compiled by clang for HIP
 * without a runtime (-no-hip-rt) runs on it unchanged, once it is in the global symbol scope. Besides HIP's functions it
 * exports those of gfx942_sim.h and the ones below.
 *
 * Host memory is device memory: hipMemcpy and memcpy do the same, and a kernel takes any pointer of the process. Every
 * launch runs to its end before it returns, so streams and events are always done. A failure of a launch is
 * hipErrorLaunchFailure, and hipGetErrorString() then tells the simulator's whole finding.
 *
 * GFX942_SIM_ARCH=gfx950 in the environment makes it a device of that kind; the default is gfx942. */
#ifndef GFX942_SIM_HIP_H_
#define GFX942_SIM_HIP_H_

#include "gfx942_sim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 1: kernels may access hipMalloc'd memory and what gfxsim_memory_register() was told of, nothing else. 0, at first:
 * also whatever else is mapped in the process, for callers that cannot tell which memory their tensors have. */
void gfxsim_hip_restrict_memory(int restricted);

/* Options of all launches to come; null for gfxsim_default_options(). */
void gfxsim_hip_set_options(const gfxsim_options* options);

/* Launches since the last call of this function, and the sum of their reports. */
uint64_t gfxsim_hip_take_report(gfxsim_report* sum);

#ifdef __cplusplus
}
#endif

#endif /* GFX942_SIM_HIP_H_ */
