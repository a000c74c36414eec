// global_*, flat_* and scratch_*: loads, stores, atomic operations and loads straight into LDS.
#include "decoder.h"
#include "memory_access.h"

namespace gfxsim {
namespace {

enum Space : uint32_t { kGlobal, kFlat, kScratch };

// Source 0: the lane's address or offset (absent: 0). Source 1: data. Source 2: a scalar base (absent: 0).
constexpr int kAddress = 0, kData = 1, kBase = 2;

uint64_t lane_address(const Wave& wave, const Instruction& instruction, int lane) {
  const Operand& address = instruction.sources[kAddress];
  const Operand& base = instruction.sources[kBase];
  if (instruction.flags == kScratch) {
    uint32_t sum = static_cast<uint32_t>(instruction.offset);
    if (address.is_vector()) sum += wave.v[address.index][lane];
    if (base.is_scalar()) sum += wave.s[base.index];
    return sum;
  }
  const uint64_t offset = static_cast<uint64_t>(instruction.offset);
  if (base.is_scalar()) return wave.pair(base.index) + wave.v[address.index][lane] + offset;
  return wave.vector_pair(address.index, lane) + offset;
}

uint8_t* lane_pointer(Wave& wave, const Instruction& instruction, LdsChecker::Kind kind, int lane) {
  const uint64_t address = lane_address(wave, instruction, lane);
  const uint32_t bytes = instruction.width;
  if (instruction.flags == kScratch) return scratch_pointer(wave, address, bytes, lane);
  if (instruction.flags == kFlat) return flat_pointer(wave, address, bytes, kind, lane, instruction.address);
  return global_pointer(wave, address, bytes, kind == LdsChecker::kRead ? Access::kRead : Access::kWrite, lane);
}

void run_load(Wave& wave, const Instruction& instruction) {
  for_lanes(wave.exec(), [&](int lane) {
    const uint8_t* from = lane_pointer(wave, instruction, LdsChecker::kRead, lane);
    load_lane(from, instruction.format, instruction.destination.index, lane, &wave);
  });
}

void run_store(Wave& wave, const Instruction& instruction) {
  for_lanes(wave.exec(), [&](int lane) {
    uint8_t* to = lane_pointer(wave, instruction, LdsChecker::kWrite, lane);
    store_lane(wave, instruction.sources[kData].index, lane, instruction.format, to);
  });
}

void run_atomic(Wave& wave, const Instruction& instruction) {
  const int data = instruction.sources[kData].index;
  const bool wide = instruction.width == 8;
  for_lanes(wave.exec(), [&](int lane) {
    uint8_t* at = lane_pointer(wave, instruction, LdsChecker::kAtomic, lane);
    const uint64_t value = wide ? wave.vector_pair(data, lane) : wave.v[data][lane];
    uint64_t compare = 0;
    if (instruction.offset2 != 0) compare = wide ? wave.vector_pair(data + 2, lane) : wave.v[data + 1][lane];
    apply_atomic(wave, instruction, at, value, compare, lane);
  });
}

// To LDS at M0 + offset + 4 (or the width of a lane's data) times the lane.
void run_load_to_lds(Wave& wave, const Instruction& instruction) {
  const uint64_t number = wave.waits.issue(Counter::kVector, false, Operand());
  const uint32_t stride = instruction.width < 4 ? 4 : instruction.width;
  for_lanes(wave.exec(), [&](int lane) {
    uint32_t dwords[4] = {};
    memcpy(dwords, lane_pointer(wave, instruction, LdsChecker::kRead, lane), instruction.width);
    const uint32_t address = (wave.s[kM0] & 0xffff) + static_cast<uint32_t>(instruction.offset) + lane * stride;
    memcpy(lds_pointer(wave, address, stride, LdsChecker::kWrite, lane, instruction.address), dwords, stride);
    if (wave.waits.enabled()) wave.block->lds_checker.note_arrival(wave.number, address, stride, number);
  });
}

bool parse_space(const Syntax& syntax, Space* space, std::string* rest) {
  static const struct {
    const char* prefix;
    Space space;
  } kSpaces[] = {{"global_", kGlobal}, {"flat_", kFlat}, {"scratch_", kScratch}};
  for (const auto& known : kSpaces) {
    if (!starts_with(syntax.mnemonic, known.prefix)) continue;
    *space = known.space;
    *rest = syntax.mnemonic.substr(strlen(known.prefix));
    return true;
  }
  return false;
}

void decode_address(const Syntax& syntax, size_t next, Instruction* instruction) {
  const std::string& address = syntax.operands.at(next);
  instruction->sources[kAddress] = parse_operand(address, ValueType::kU64);
  if (address != "off" && !instruction->sources[kAddress].is_vector()) throw NotModelled{"address " + address};
}

void decode_base(const Syntax& syntax, size_t next, Instruction* instruction) {
  if (next < syntax.operands.size())
    instruction->sources[kBase] = parse_operand(syntax.operands[next], ValueType::kU64);
  const bool has_base = instruction->sources[kBase].is_scalar();
  const int needed = instruction->flags == kScratch || has_base ? 1 : 2;
  const Operand& address = instruction->sources[kAddress];
  if (instruction->flags != kScratch && address.count != needed) throw NotModelled{"the address"};
}

void decode_load(const Syntax& syntax, const std::string& type, Instruction* instruction) {
  const bool to_lds = starts_with(type, "lds_");
  if (!parse_format(to_lds ? type.substr(strlen("lds_")) : type, &instruction->format))
    throw NotModelled{"type " + type};
  instruction->run = to_lds ? run_load_to_lds : run_load;
  instruction->cls = to_lds ? GFXSIM_CLASS_VMEM_LDS : GFXSIM_CLASS_VMEM_LOAD;
  instruction->brings_data = !to_lds;
  if (to_lds) instruction->counter = Counter::kNone;  // its handler counts it
  size_t next = 0;
  if (!to_lds) instruction->destination = vector_registers(syntax.operands.at(next++), instruction->format.dwords());
  decode_address(syntax, next++, instruction);
  decode_base(syntax, next, instruction);
}

void decode_store(const Syntax& syntax, const std::string& type, Instruction* instruction) {
  if (!parse_format(type, &instruction->format)) throw NotModelled{"type " + type};
  instruction->run = run_store;
  instruction->cls = GFXSIM_CLASS_VMEM_STORE;
  decode_address(syntax, 0, instruction);
  instruction->sources[kData] = vector_registers(syntax.operands.at(1), instruction->format.dwords());
  decode_base(syntax, 2, instruction);
}

void decode_atomic(const Syntax& syntax, const std::string& name, Instruction* instruction) {
  const AtomicOp* op = find_atomic(name);
  if (op == nullptr) throw NotModelled{"operation " + name};
  instruction->run = run_atomic;
  instruction->cls = GFXSIM_CLASS_VMEM_ATOMIC;
  instruction->atomic = op->run;
  instruction->format.bytes = op->bytes;
  instruction->brings_data = syntax.has("sc0");
  instruction->offset2 = op->compares;
  size_t next = 0;
  if (instruction->brings_data) instruction->destination = vector_registers(syntax.operands.at(next++), op->bytes / 4);
  decode_address(syntax, next++, instruction);
  instruction->sources[kData] = vector_registers(syntax.operands.at(next++), op->bytes / 4 * (op->compares ? 2 : 1));
  decode_base(syntax, next, instruction);
}

}  // namespace

bool decode_flat(const Syntax& syntax, Instruction* instruction) {
  Space space;
  std::string rest;
  if (!parse_space(syntax, &space, &rest)) return false;
  instruction->flags = space;
  instruction->counter = Counter::kVector;
  instruction->offset = syntax.integer("offset", 0);
  instruction->source_count = 3;
  if (starts_with(rest, "load_")) {
    decode_load(syntax, rest.substr(strlen("load_")), instruction);
  } else if (starts_with(rest, "store_")) {
    decode_store(syntax, rest.substr(strlen("store_")), instruction);
  } else if (starts_with(rest, "atomic_") && space != kScratch) {
    decode_atomic(syntax, rest.substr(strlen("atomic_")), instruction);
  } else {
    return false;
  }
  instruction->width = instruction->format.bytes;
  if (space == kScratch) instruction->cls = GFXSIM_CLASS_SCRATCH;
  return true;
}

}  // namespace gfxsim
