// From the text of an instruction to its handler and operands. One decoder a class of instructions; each looks at the
// mnemonic, fills in the instruction and says whether it was its own.
#pragma once

#include <string>

#include "instruction.h"
#include "syntax.h"

namespace gfxsim {

// Instruction::flags of a branch whose target's address is in Instruction::offset.
constexpr uint32_t kBranches = 0xb0b0;

// "" or why the instruction cannot be run.
std::string decode(const std::string& text, Instruction* instruction);

bool decode_control(const Syntax& syntax, Instruction* instruction);        // branches, barriers, waits
bool decode_scalar(const Syntax& syntax, Instruction* instruction);         // scalar arithmetic
bool decode_scalar_memory(const Syntax& syntax, Instruction* instruction);  // s_load
bool decode_lane_op(const Syntax& syntax, Instruction* instruction);        // vector arithmetic, lane by lane
bool decode_packed(const Syntax& syntax, Instruction* instruction);         // v_pk_*, v_dot2, mixed precision
bool decode_cross_lane(const Syntax& syntax, Instruction* instruction);     // readlane, writelane, swaps
bool decode_matrix(const Syntax& syntax, Instruction* instruction);         // v_mfma_*
bool decode_lds(const Syntax& syntax, Instruction* instruction);            // ds_*
bool decode_flat(const Syntax& syntax, Instruction* instruction);           // global_*, flat_*, scratch_*
bool decode_buffer(const Syntax& syntax, Instruction* instruction);         // buffer_*

}  // namespace gfxsim
