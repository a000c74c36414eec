// Data-parallel-primitive modifiers: source 0 comes from another lane of the row or the wave.
#pragma once

#include <cstdint>

#include "instruction.h"
#include "syntax.h"
#include "vector.h"

namespace gfxsim {

bool is_dpp_modifier(const std::string& name);
DppControl decode_dpp(const Syntax& syntax);

// Moves `source` between lanes into `moved`; gives the lanes that may be written.
uint64_t move_lanes(const DppControl& dpp, uint64_t exec, const uint32_t* source, LaneRow* moved, ValueType type);

}  // namespace gfxsim
