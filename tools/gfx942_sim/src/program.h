// A kernel made ready to run: the instructions it can reach, decoded, in the order of their addresses.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "disassembler.h"
#include "elf_file.h"
#include "hazards.h"
#include "instruction.h"

namespace gfxsim {

struct Program {
  // Decodes the kernel at [entry, entry + bytes) and, where it calls, every function of the object that is no kernel.
  // Throws a GFXSIM_UNKNOWN_INSTRUCTION for what the kernel itself holds and the simulator does not model; in a called
  // function such an instruction fails when it is executed.
  Program(const Elf& elf, const Disassembler& disassembler, const std::string& name);

  // The slot of the instruction at an address in the object; throws where there is none.
  uint32_t slot(uint64_t address) const;

  std::vector<Instruction> instructions;
  std::vector<std::string> texts;  // of each instruction
  Hazard hazard;                   // if there is one
  uint64_t base = 0;               // address of the object's address 0 in this process
  const char* kernel = nullptr;

 private:
  void decode_function(const Elf& elf, const Disassembler& disassembler, const ElfSymbol& function, bool must_be_known);
  void resolve_branches();

  std::unordered_map<uint64_t, uint32_t> slots_;
};

}  // namespace gfxsim
