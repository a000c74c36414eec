// s_load_dword*: kernel arguments and other uniform data.
#include "decoder.h"
#include "memory_access.h"

namespace gfxsim {
namespace {

void run_load(Wave& wave, const Instruction& instruction) {
  const uint64_t base = wave.pair(instruction.sources[0].index);
  const uint64_t offset = read32(wave, instruction.sources[1]) + static_cast<uint64_t>(instruction.offset);
  const uint64_t address = (base + offset) & ~uint64_t{3};
  const uint8_t* from = global_pointer(wave, address, instruction.width, Access::kRead, 0);
  memcpy(&wave.s[instruction.destination.index], from, instruction.width);
}

}  // namespace

bool decode_scalar_memory(const Syntax& syntax, Instruction* instruction) {
  if (!starts_with(syntax.mnemonic, "s_load_dword")) return false;
  if (syntax.operands.size() != 3) throw NotModelled{"the operands"};
  instruction->run = run_load;
  instruction->cls = GFXSIM_CLASS_SMEM;
  instruction->counter = Counter::kLgkm;
  instruction->scalar_memory = instruction->brings_data = true;
  instruction->destination = parse_operand(syntax.operands[0], ValueType::kU32);
  instruction->width = 4 * instruction->destination.count;
  instruction->add_source(parse_operand(syntax.operands[1], ValueType::kU64));
  Operand offset = parse_operand(syntax.operands[2], ValueType::kU32);
  if (offset.kind == Operand::kLiteral) {
    instruction->offset = parse_integer(syntax.operands[2]);  // 21 bits with a sign
    offset.literal = 0;
  }
  instruction->offset += syntax.integer("offset", 0);
  instruction->add_source(offset);
  return true;
}

}  // namespace gfxsim
