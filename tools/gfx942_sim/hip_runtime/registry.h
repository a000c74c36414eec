// What the compiler's start-up code has registered: fat binaries, and the kernels and variables in them by the host
// addresses that stand for them. Code objects are loaded at their first use.
#pragma once

#include "gfx942_sim.h"
#include "hip_runtime/hip_abi.h"

namespace gfxsim::hip {

// The simulator's kernel behind the host address of a __global__ function.
Error find_kernel(const void* host_function, const gfxsim_kernel** kernel);

// Address and size of the device copy of a __device__ or __constant__ variable.
Error find_variable(const void* host_variable, void** address, size_t* size);

}  // namespace gfxsim::hip
