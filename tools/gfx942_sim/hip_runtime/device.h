// The one device of this runtime.
#pragma once

#include <cstdint>
#include <string>

namespace gfxsim::hip {

// "gfx942", or what GFX942_SIM_ARCH says.
const std::string& device_arch();

// LDS that a block may have.
uint32_t device_lds_bytes();

}  // namespace gfxsim::hip
