// Distances between instructions that the hardware leaves to software, counted in instructions and s_nop. Compilers
// keep them; assembly written by hand may not.
#pragma once

#include <string>
#include <vector>

#include "instruction.h"

namespace gfxsim {

struct Hazard {
  size_t slot = 0;   // of the instruction that comes too early
  std::string what;  // is wrong; "" where nothing is
};

// The first in `instructions`, which are in the order of their addresses. Follows the code as it is laid out, not its
// jumps.
Hazard find_hazard(const std::vector<Instruction>& instructions, const std::vector<std::string>& texts);

}  // namespace gfxsim
