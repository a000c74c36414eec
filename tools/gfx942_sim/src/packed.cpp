// v_pk_*: a lane operation on two halves of a register or on two registers; and v_fma_mix, whose operands are floats or
// halves as they like.
#include "decoder.h"
#include "lane_op.h"
#include "vector.h"

namespace gfxsim {
namespace {

constexpr int kMostArguments = 3;

// Runs the operation on the operands of one half: the low ones come first in the instruction, the high ones behind.
void run_half(const Wave& wave, const Instruction& instruction, int half, uint32_t* result) {
  const LaneOp& op = *instruction.lane_op;
  LaneRow space[kMostArguments];
  LaneBuffers buffers = {};
  for (int i = 0; i < op.argument_count; ++i) {
    buffers.sources[i] = fetch(wave, instruction.sources[half * kMostArguments + i], op.arguments[i], &space[i]);
  }
  buffers.result = result;
  op.run(buffers);
}

void run_packed_32(Wave& wave, const Instruction& instruction) {
  LaneRow low, high;
  run_half(wave, instruction, 0, low.dwords);
  run_half(wave, instruction, 1, high.dwords);
  write_lanes(wave.exec(), low.dwords, wave.v[instruction.destination.index]);
  write_lanes(wave.exec(), high.dwords, wave.v[instruction.destination.index + 1]);
}

void run_packed_16(Wave& wave, const Instruction& instruction) {
  LaneRow low, high;
  run_half(wave, instruction, 0, low.dwords);
  run_half(wave, instruction, 1, high.dwords);
  for (int lane = 0; lane < kLanes; ++lane) low.dwords[lane] = (low.dwords[lane] & 0xffff) | high.dwords[lane] << 16;
  write_lanes(wave.exec(), low.dwords, wave.v[instruction.destination.index]);
}

// What one half reads of operand `text`: the register or the part of it that op_sel (low) or op_sel_hi (high) selects.
Operand select_half(const std::string& text, ValueType type, bool select, bool negate) {
  const bool whole_registers = registers_of(type) == 2 || type == ValueType::kF32 || type == ValueType::kU32;
  const bool integer = type == ValueType::kU16 || type == ValueType::kI16;
  Operand operand = parse_operand(text, integer ? ValueType::kU32 : type);
  operand.negate = negate;
  if (operand.kind == Operand::kLiteral) {
    if (whole_registers && select && operand.literal != 0) throw NotModelled{"the high half of a constant"};
    if (!whole_registers) operand.literal = operand.literal >> (select ? 16 : 0) & 0xffff;
    return operand;
  }
  if (whole_registers) {
    operand.index += select && operand.count > 1;
    operand.count = 1;
  } else {
    operand.bits = 16;
    operand.shift = select ? 16 : 0;
  }
  return operand;
}

// The lane operation that v_pk_<name> does twice.
const LaneOp* half_operation(const std::string& packed) {
  const std::string name = packed.substr(strlen("v_pk_"));
  if (name == "add_i16") return find_lane_op("v_add_u16");
  if (name == "sub_i16") return find_lane_op("v_sub_u16");
  if (name == "mad_i16") return find_lane_op("v_mad_u16");
  return find_lane_op("v_" + name);
}

void decode_packed_sources(const Syntax& syntax, Instruction* instruction) {
  const LaneOp& op = *instruction->lane_op;
  if (static_cast<int>(syntax.operands.size()) != op.argument_count + 1) throw NotModelled{"the operands"};
  for (int half = 0; half < 2; ++half) {
    const char* select = half == 0 ? "op_sel" : "op_sel_hi";
    const char* negate = half == 0 ? "neg_lo" : "neg_hi";
    for (int i = 0; i < op.argument_count; ++i) {
      const bool selected = syntax.list_entry(select, i, half) != 0;
      instruction->sources[half * kMostArguments + i] =
          select_half(syntax.operands[i + 1], op.arguments[i], selected, syntax.list_entry(negate, i, 0) != 0);
    }
  }
}

// v_pk_mov_b32 takes its low result from the first source and its high one from the second.
void decode_packed_move(const Syntax& syntax, Instruction* instruction) {
  if (syntax.operands.size() != 3) throw NotModelled{"the operands"};
  for (int half = 0; half < 2; ++half) {
    const bool selected = syntax.list_entry("op_sel", half, 0) != 0;
    instruction->sources[half * kMostArguments] =
        select_half(syntax.operands[half + 1], ValueType::kU32, selected, false);
  }
}

// Sources of v_fma_mix: bit i of Instruction::flags says that source i is a half.
void run_mixed(Wave& wave, const Instruction& instruction) {
  LaneRow space[kMostArguments];
  float values[kMostArguments][kLanes];
  for (int i = 0; i < kMostArguments; ++i) {
    const bool half = instruction.flags >> i & 1;
    const ValueType type = half ? ValueType::kF16 : ValueType::kF32;
    const uint32_t* row = fetch(wave, instruction.sources[i], type, &space[i]);
    for (int lane = 0; lane < kLanes; ++lane) {
      values[i][lane] = half ? half_to_float(row[lane]) : bit_cast<float>(row[lane]);
    }
  }
  const Operand& to = instruction.destination;
  uint32_t* old = wave.v[to.index];
  uint32_t result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const float value = std::fma(values[0][lane], values[1][lane], values[2][lane]);
    const uint32_t mask = 0xffffu << to.shift;
    result[lane] =
        to.bits == 32 ? bit_cast<uint32_t>(value) : (old[lane] & ~mask) | uint32_t{float_to_half(value)} << to.shift;
  }
  write_lanes(wave.exec(), result, old);
}

bool decode_mixed(const Syntax& syntax, Instruction* instruction) {
  const bool low = syntax.mnemonic == "v_fma_mixlo_f16";
  const bool high = syntax.mnemonic == "v_fma_mixhi_f16";
  if (!low && !high && syntax.mnemonic != "v_fma_mix_f32") return false;
  if (syntax.operands.size() != 4) throw NotModelled{"the operands"};
  if (syntax.has("clamp")) throw NotModelled{"clamp"};
  instruction->run = run_mixed;
  instruction->destination = vector_destination(syntax.operands[0]);
  if (low || high) {
    instruction->destination.bits = 16;
    instruction->destination.shift = high ? 16 : 0;
  }
  for (int i = 0; i < kMostArguments; ++i) {
    const bool half = syntax.list_entry("op_sel_hi", i, 0) != 0;
    Operand source = parse_operand(syntax.operands[i + 1], half ? ValueType::kF16 : ValueType::kF32);
    if (half && source.kind != Operand::kLiteral) {
      source.bits = 16;
      source.shift = syntax.list_entry("op_sel", i, 0) != 0 ? 16 : 0;
    }
    instruction->add_source(source);
    instruction->flags |= half << i;
  }
  return true;
}

}  // namespace

bool decode_packed(const Syntax& syntax, Instruction* instruction) {
  instruction->cls = GFXSIM_CLASS_VALU;
  if (decode_mixed(syntax, instruction)) return true;
  if (!starts_with(syntax.mnemonic, "v_pk_")) return false;
  instruction->lane_op = half_operation(syntax.mnemonic);
  if (instruction->lane_op == nullptr) return false;
  if (syntax.has("clamp")) throw NotModelled{"clamp"};
  instruction->destination = vector_destination(syntax.operands[0]);
  instruction->source_count = 2 * kMostArguments;
  if (syntax.mnemonic == "v_pk_mov_b32") {
    decode_packed_move(syntax, instruction);
  } else {
    decode_packed_sources(syntax, instruction);
  }
  instruction->run = instruction->destination.count == 2 ? run_packed_32 : run_packed_16;
  return true;
}

}  // namespace gfxsim
