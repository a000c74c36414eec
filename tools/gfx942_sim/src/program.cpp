#include "program.h"

#include <algorithm>

#include "decoder.h"
#include "error.h"
#include "wave.h"

namespace gfxsim {
namespace {

unsigned long long hex(uint64_t value) { return value; }

// In the place of an instruction that is not modelled.
void run_unknown(Wave& wave, const Instruction& instruction) {
  const auto slot = static_cast<size_t>(&instruction - wave.program->instructions.data());
  throw Error(GFXSIM_UNKNOWN_INSTRUCTION, "this instruction is not modelled: " + wave.program->texts[slot]);
}

// After the last instruction of each function, where nothing may continue.
void run_past_end(Wave&, const Instruction&) { throw Error(GFXSIM_TRAP, "execution ran past the end of a function"); }

bool calls(const Instruction& instruction, const std::string& text) {
  return instruction.cls == GFXSIM_CLASS_BRANCH && (text.rfind("s_swappc", 0) == 0 || text.rfind("s_setpc", 0) == 0);
}

}  // namespace

Program::Program(const Elf& elf, const Disassembler& disassembler, const std::string& name) {
  base = reinterpret_cast<uint64_t>(elf.image.get());
  const auto kernel_symbol = elf.symbols.find(name);
  if (kernel_symbol == elf.symbols.end()) {
    throw Error(GFXSIM_INVALID_OBJECT, "the object's metadata names a kernel without a symbol: " + name);
  }
  kernel = kernel_symbol->first.c_str();
  decode_function(elf, disassembler, kernel_symbol->second, true);
  bool has_calls = false;
  for (size_t i = 0; i < instructions.size(); ++i) has_calls = has_calls || calls(instructions[i], texts[i]);
  if (has_calls) {
    for (const auto& symbol : elf.symbols) {
      const bool is_kernel = elf.symbols.count(symbol.first + ".kd") != 0;
      if (symbol.second.function && !is_kernel) decode_function(elf, disassembler, symbol.second, false);
    }
  }
  resolve_branches();
  hazard = find_hazard(instructions, texts);
}

void Program::decode_function(const Elf& elf, const Disassembler& disassembler, const ElfSymbol& function,
                              bool must_be_known) {
  const uint64_t end = function.address + function.size;
  elf.at(function.address, function.size);
  for (uint64_t address = function.address; address < end;) {
    if (slots_.count(address) != 0) return;  // an alias of a function that was decoded
    std::string text;
    uint64_t size = disassembler.disassemble(elf.image.get() + address, end - address, address, &text);
    Instruction instruction;
    if (size == 0) {
      text = format("(no instruction: 0x%08x)", *reinterpret_cast<const uint32_t*>(elf.image.get() + address));
      size = sizeof(uint32_t);
    }
    instruction.address = address;
    instruction.size = size;
    const std::string why = decode(text, &instruction);
    if (!why.empty()) {
      if (must_be_known) {
        throw Error(GFXSIM_UNKNOWN_INSTRUCTION, format("kernel %s, pc 0x%llx: %s: %s; nothing was executed", kernel,
                                                       hex(address), text.c_str(), why.c_str()));
      }
      instruction.run = run_unknown;
    }
    slots_[address] = static_cast<uint32_t>(instructions.size());
    instructions.push_back(instruction);
    texts.push_back(text);
    address += size;
  }
  Instruction past_end;
  past_end.run = run_past_end;
  past_end.address = end;
  instructions.push_back(past_end);
  texts.push_back("(end of function)");
}

// Decoding leaves the target's address in `offset`.
void Program::resolve_branches() {
  for (Instruction& instruction : instructions) {
    if (instruction.flags == kBranches) instruction.target = slot(static_cast<uint64_t>(instruction.offset));
  }
}

uint32_t Program::slot(uint64_t address) const {
  const auto found = slots_.find(address);
  if (found == slots_.end()) {
    throw Error(GFXSIM_TRAP, format("jump to 0x%llx, where the kernel has no instruction", hex(address)));
  }
  return found->second;
}

}  // namespace gfxsim
