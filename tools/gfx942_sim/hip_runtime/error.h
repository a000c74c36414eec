// The last error of a thread, and the whole story behind it for hipGetErrorString().
#pragma once

#include <string>

#include "hip_runtime/hip_abi.h"

namespace gfxsim::hip {

// Remembers `error` and its story for the calling thread; returns `error`.
Error fail(Error error, const std::string& story);

}  // namespace gfxsim::hip
