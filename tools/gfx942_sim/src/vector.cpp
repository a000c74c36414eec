// Vector arithmetic: fetch the operands, run the table's function over the lanes, write what EXEC allows.
#include "vector.h"

#include <unordered_map>

#include "decoder.h"
#include "dpp.h"
#include "lane_op.h"

namespace gfxsim {
namespace {

constexpr uint8_t kIndexDestination = 8;  // of Wave::index_mode

uint32_t sign_bit(ValueType type) {
  return type == ValueType::kU16 || type == ValueType::kI16 || type == ValueType::kF16 ? 0x8000u : 0x80000000u;
}

bool is_wide(ValueType type) { return registers_of(type) == 2; }

// The part of each dword that SDWA or op_sel selects, then |x|, then -x.
void modify(const Operand& operand, ValueType type, uint32_t* row) {
  if (operand.bits != 32) {
    const uint32_t mask = (1u << operand.bits) - 1;
    for (int lane = 0; lane < kLanes; ++lane) row[lane] = row[lane] >> operand.shift & mask;
  }
  if (operand.sign_extend) {
    const int unused = 32 - operand.bits;
    for (int lane = 0; lane < kLanes; ++lane) {
      row[lane] = static_cast<uint32_t>(static_cast<int32_t>(row[lane] << unused) >> unused);
    }
  }
  uint32_t* signs = is_wide(type) ? row + kLanes : row;
  const uint32_t sign = sign_bit(type);
  if (operand.absolute) {
    for (int lane = 0; lane < kLanes; ++lane) signs[lane] &= ~sign;
  }
  if (operand.negate) {
    for (int lane = 0; lane < kLanes; ++lane) signs[lane] ^= sign;
  }
}

void expand_mask(uint64_t mask, uint32_t* row) {
  for (int lane = 0; lane < kLanes; ++lane) row[lane] = mask >> lane & 1;
}

uint64_t pack_mask(const uint32_t* row) {
  uint64_t mask = 0;
  for (int lane = 0; lane < kLanes; ++lane) mask |= uint64_t{row[lane] & 1} << lane;
  return mask;
}

void clamp_result(ValueType type, uint32_t* row) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (type == ValueType::kF32) {
      const float value = bit_cast<float>(row[lane]);
      row[lane] = bit_cast<uint32_t>(value > 0 ? (value < 1 ? value : 1.f) : 0.f);
    } else {
      const float value = half_to_float(row[lane]);
      row[lane] = float_to_half(value > 0 ? (value < 1 ? value : 1.f) : 0.f);
    }
  }
}

void scale_result(float scale, uint32_t* row) {
  for (int lane = 0; lane < kLanes; ++lane) row[lane] = bit_cast<uint32_t>(bit_cast<float>(row[lane]) * scale);
}

// Puts each result into its part of the destination's dword.
void place_part(const Instruction& instruction, const uint32_t* old, uint32_t* row) {
  const Operand& to = instruction.destination;
  const uint32_t mask = ((1u << to.bits) - 1) << to.shift;
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint32_t rest = instruction.keep_rest ? old[lane] & ~mask : 0;
    row[lane] = rest | (row[lane] << to.shift & mask);
  }
}

void write_result(Wave& wave, const Instruction& instruction, uint64_t mask, LaneRow* result) {
  const ValueType type = instruction.lane_op->result;
  if (instruction.output_scale != 1) scale_result(instruction.output_scale, result->dwords);
  if (instruction.clamp) clamp_result(type, result->dwords);
  const int first = instruction.destination.index;
  if (instruction.destination.bits != 32) place_part(instruction, wave.v[first], result->dwords);
  write_lanes(mask, result->dwords, wave.v[first]);
  if (is_wide(type)) write_lanes(mask, result->dwords + kLanes, wave.v[first + 1]);
}

void write_flags(Wave& wave, const Instruction& instruction, uint64_t mask, const uint32_t* flags) {
  const uint64_t bits = pack_mask(flags) & mask;
  wave.set_pair(instruction.second.index, bits);
  if (instruction.flags != 0) wave.set_pair(kExec, bits);  // v_cmpx
}

void run_lane_op(Wave& wave, const Instruction& instruction) {
  const LaneOp& op = *instruction.lane_op;
  LaneRow space[4];
  LaneRow result;
  uint32_t flags[kLanes];
  LaneBuffers buffers;
  uint64_t mask = wave.exec();
  for (int i = 0; i < op.argument_count; ++i) {
    buffers.sources[i] = fetch(wave, instruction.sources[i], op.arguments[i], &space[i]);
  }
  if (instruction.dpp.used) {
    mask &= move_lanes(instruction.dpp, wave.exec(), buffers.sources[0], &space[0], op.arguments[0]);
    buffers.sources[0] = space[0].dwords;
  }
  buffers.result = result.dwords;
  buffers.flags = flags;
  op.run(buffers);
  if (op.result != ValueType::kNone) write_result(wave, instruction, mask, &result);
  if (op.gives_flags) write_flags(wave, instruction, mask, flags);
}

// Between s_set_gpr_idx_on and _off, M0 is added to the register numbers that the mode names.
void run_indexed(Wave& wave, const Instruction& instruction) {
  if (wave.index_mode == 0) {
    run_lane_op(wave, instruction);
    return;
  }
  Instruction moved = instruction;
  const uint32_t by = wave.s[kM0] & 0xff;
  const auto move = [by](Operand* operand) {
    if (!operand->is_vector()) return;
    operand->index += by;
    if (operand->index + operand->count > kVectorRegisters) {
      throw Error(GFXSIM_TRAP, format("M0 adds %u to a register number, which goes past the last register", by));
    }
  };
  for (int i = 0; i < 3; ++i) {
    if (wave.index_mode >> i & 1) move(&moved.sources[i]);
  }
  if (wave.index_mode & kIndexDestination) move(&moved.destination);
  run_lane_op(wave, moved);
}

std::unordered_map<std::string, LaneOp> make_table() {
  std::unordered_map<std::string, LaneOp> table;
  for (const auto part :
       {float_ops, half_ops, double_ops, integer_ops, narrow_integer_ops, conversion_ops, compare_ops}) {
    for (LaneOp& op : part()) table.emplace(op.name, std::move(op));
  }
  return table;
}

void select_part(const std::string& selection, Operand* operand) {
  if (selection == "DWORD") return;
  const int number = selection.back() - '0';
  operand->bits = starts_with(selection, "BYTE_") ? 8 : 16;
  operand->shift = number * operand->bits;
}

bool is_half_width(ValueType type) {
  return type == ValueType::kU16 || type == ValueType::kI16 || type == ValueType::kF16;
}

void decode_source_parts(const Syntax& syntax, const LaneOp& op, Instruction* instruction) {
  static const char* const kSelections[] = {"src0_sel", "src1_sel"};
  for (int i = 0; i < instruction->source_count; ++i) {
    Operand& source = instruction->sources[i];
    if (syntax.encoding == "sdwa" && i < 2) {
      if (const std::string* selection = syntax.find(kSelections[i])) select_part(*selection, &source);
    } else if (is_half_width(op.arguments[i]) && syntax.list_entry("op_sel", i, 0) != 0) {
      if (!source.is_vector() && !source.is_scalar()) throw NotModelled{"op_sel on a constant"};
      source.shift = source.bits = 16;
    }
  }
}

void decode_destination_part(const Syntax& syntax, const LaneOp& op, Instruction* instruction) {
  Operand& to = instruction->destination;
  if (syntax.encoding == "sdwa") {
    const std::string* selection = syntax.find("dst_sel");
    if (selection != nullptr) select_part(*selection, &to);
    const std::string* unused = syntax.find("dst_unused");
    instruction->keep_rest = unused != nullptr && *unused == "UNUSED_PRESERVE";
    if (unused != nullptr && *unused == "UNUSED_SEXT") throw NotModelled{"dst_unused:UNUSED_SEXT"};
    return;
  }
  if (!is_half_width(op.result)) return;
  const bool high = syntax.list_entry("op_sel", op.argument_count, 0) != 0;
  if (!high && !op.keeps_high_half) return;
  to.bits = 16;
  to.shift = high ? 16 : 0;
  instruction->keep_rest = true;
}

void decode_output_modifiers(const Syntax& syntax, const LaneOp& op, Instruction* instruction) {
  instruction->clamp = syntax.has("clamp");
  if (instruction->clamp && op.result != ValueType::kF32 && op.result != ValueType::kF16) throw NotModelled{"clamp"};
  if (syntax.has("mul")) instruction->output_scale = static_cast<float>(syntax.integer("mul", 1));
  if (syntax.has("div")) instruction->output_scale = 1.f / static_cast<float>(syntax.integer("div", 1));
  if (instruction->output_scale != 1 && op.result != ValueType::kF32) throw NotModelled{"mul or div"};
}

void check_modifiers(const Syntax& syntax) {
  static const char* const kKnown[] = {"op_sel",   "clamp",   "mul",        "div",   "src0_sel",
                                       "src1_sel", "dst_sel", "dst_unused", "bitop3"};
  for (const auto& modifier : syntax.modifiers) {
    bool known = is_dpp_modifier(modifier.first);
    for (const char* name : kKnown) known = known || modifier.first == name;
    if (!known) throw NotModelled{"modifier " + modifier.first};
  }
}

Operand literal(int64_t value) {
  Operand operand;
  operand.kind = Operand::kLiteral;
  operand.literal = static_cast<uint64_t>(value);
  return operand;
}

Operand implicit_vcc() {
  Operand vcc;
  vcc.kind = Operand::kScalar;
  vcc.index = kVcc;
  vcc.count = 2;
  return vcc;
}

void decode_operands(const Syntax& syntax, const LaneOp& op, Instruction* instruction) {
  size_t next = 0;
  const auto take = [&syntax, &next]() -> const std::string& {
    if (next >= syntax.operands.size()) throw NotModelled{"a missing operand"};
    return syntax.operands[next++];
  };
  if (op.result != ValueType::kNone) instruction->destination = vector_destination(take());
  if (op.gives_flags) {
    instruction->second = parse_operand(take(), ValueType::kMask);
    if (!instruction->second.is_scalar()) throw NotModelled{"a vector register for flags"};
  }
  const int implicit = op.reads_destination || op.reads_vcc || op.reads_table ? 1 : 0;
  for (int i = 0; i < op.argument_count - implicit; ++i) {
    instruction->add_source(parse_operand(take(), op.arguments[i]));
  }
  if (op.reads_destination) instruction->add_source(instruction->destination);
  if (op.reads_vcc) instruction->add_source(implicit_vcc());
  if (op.reads_table) instruction->add_source(literal(syntax.integer("bitop3", 0)));
  if (next != syntax.operands.size()) throw NotModelled{"an operand too many"};
}

}  // namespace

int registers_of(ValueType type) {
  return type == ValueType::kU64 || type == ValueType::kI64 || type == ValueType::kF64 ? 2 : 1;
}

const uint32_t* fetch(const Wave& wave, const Operand& operand, ValueType type, LaneRow* space) {
  uint32_t* row = space->dwords;
  if (operand.is_vector()) {
    if (!operand.is_modified()) return wave.v[operand.index];
    memcpy(row, wave.v[operand.index], registers_of(type) * kLanes * sizeof(uint32_t));
  } else if (type == ValueType::kMask) {
    expand_mask(read64(wave, operand), row);
    return row;
  } else if (is_wide(type)) {
    const uint64_t value = read64(wave, operand);
    broadcast(static_cast<uint32_t>(value), row);
    broadcast(static_cast<uint32_t>(value >> 32), row + kLanes);
  } else {
    broadcast(read32(wave, operand), row);
  }
  if (operand.is_modified()) modify(operand, type, row);
  return row;
}

Operand vector_destination(const std::string& text) {
  const Operand operand = parse_operand(text, ValueType::kU32);
  if (!operand.is_vector() || operand.is_modified()) throw NotModelled{"destination " + text};
  return operand;
}

const LaneOp* find_lane_op(const std::string& name) {
  static const std::unordered_map<std::string, LaneOp> kTable = make_table();
  const auto found = kTable.find(name);
  return found == kTable.end() ? nullptr : &found->second;
}

bool decode_lane_op(const Syntax& syntax, Instruction* instruction) {
  const LaneOp* found = find_lane_op(syntax.mnemonic);
  if (found == nullptr) return false;
  const LaneOp& op = *found;
  check_modifiers(syntax);
  instruction->lane_op = &op;
  instruction->cls = op.cls;
  instruction->run = run_indexed;
  decode_operands(syntax, op, instruction);
  instruction->flags = starts_with(op.name, "v_cmpx_");
  instruction->dpp = decode_dpp(syntax);
  decode_source_parts(syntax, op, instruction);
  decode_destination_part(syntax, op, instruction);
  decode_output_modifiers(syntax, op, instruction);
  return true;
}

}  // namespace gfxsim
