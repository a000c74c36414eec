// buffer_*: memory through a resource of four scalar registers, which says where the buffer ends. Reads behind its end
// give 0, writes there do nothing; what is inside must also be registered memory. Swizzled buffers are not modelled.
#include "decoder.h"
#include "memory_access.h"

namespace gfxsim {
namespace {

// Source 0: vector index and offset (absent where neither is used). 1: resource. 2: scalar offset. 3: data.
constexpr int kAddress = 0, kResource = 1, kScalarOffset = 2, kData = 3;
enum Flag : uint32_t { kOffsetEnabled = 1, kIndexEnabled = 2 };

struct Resource {
  uint64_t base;
  uint32_t records;
  uint32_t stride;
};

Resource read_resource(const Wave& wave, const Instruction& instruction) {
  const uint32_t* words = &wave.s[instruction.sources[kResource].index];
  if (words[1] >> 31 != 0 || (words[3] >> 23 & 1) != 0) {
    throw Error(GFXSIM_UNKNOWN_INSTRUCTION,
                "swizzled buffers and buffers that add the thread's number are not modelled");
  }
  return {words[0] | uint64_t{words[1] & 0xffff} << 32, words[2], words[1] >> 16 & 0x3fff};
}

// Where a lane's data begins, and how many of its bytes are inside the buffer.
struct Place {
  uint64_t address;
  uint32_t bytes;
};

Place place_of(const Wave& wave, const Instruction& instruction, const Resource& resource, int lane) {
  const Operand& registers = instruction.sources[kAddress];
  int next = registers.index;
  const uint32_t index = instruction.flags & kIndexEnabled ? wave.v[next++][lane] : 0;
  const uint64_t offset =
      (instruction.flags & kOffsetEnabled ? wave.v[next][lane] : 0) + static_cast<uint64_t>(instruction.offset);
  const uint32_t scalar = read32(wave, instruction.sources[kScalarOffset]);
  const uint64_t address = resource.base + scalar + uint64_t{resource.stride} * index + offset;
  const uint32_t wanted = instruction.width;
  if (resource.stride != 0) return {address, index < resource.records ? wanted : 0};
  const uint64_t begin = offset + scalar;
  if (begin >= resource.records) return {address, 0};
  const uint64_t left = resource.records - begin;
  // Whole dwords of a wide access, all of a narrow one.
  if (left >= wanted) return {address, wanted};
  return {address, wanted < 4 ? 0 : static_cast<uint32_t>(left / 4 * 4)};
}

// The lane's data, zero where it is outside the buffer.
void read_place(Wave& wave, const Place& place, int lane, uint8_t* bytes) {
  memset(bytes, 0, 16);
  if (place.bytes == 0) return;
  memcpy(bytes, global_pointer(wave, place.address, place.bytes, Access::kRead, lane), place.bytes);
}

void run_load(Wave& wave, const Instruction& instruction) {
  const Resource resource = read_resource(wave, instruction);
  for_lanes(wave.exec(), [&](int lane) {
    uint8_t bytes[16];
    read_place(wave, place_of(wave, instruction, resource, lane), lane, bytes);
    load_lane(bytes, instruction.format, instruction.destination.index, lane, &wave);
  });
}

void run_store(Wave& wave, const Instruction& instruction) {
  const Resource resource = read_resource(wave, instruction);
  for_lanes(wave.exec(), [&](int lane) {
    const Place place = place_of(wave, instruction, resource, lane);
    if (place.bytes == 0) return;
    uint8_t bytes[16];
    store_lane(wave, instruction.sources[kData].index, lane, instruction.format, bytes);
    memcpy(global_pointer(wave, place.address, place.bytes, Access::kWrite, lane), bytes, place.bytes);
  });
}

void run_atomic(Wave& wave, const Instruction& instruction) {
  const Resource resource = read_resource(wave, instruction);
  const int data = instruction.sources[kData].index;
  const bool wide = instruction.width == 8;
  for_lanes(wave.exec(), [&](int lane) {
    const Place place = place_of(wave, instruction, resource, lane);
    if (place.bytes != instruction.width) return;
    uint8_t* at = global_pointer(wave, place.address, place.bytes, Access::kWrite, lane);
    const uint64_t value = wide ? wave.vector_pair(data, lane) : wave.v[data][lane];
    uint64_t compare = 0;
    if (instruction.offset2 != 0) compare = wide ? wave.vector_pair(data + 2, lane) : wave.v[data + 1][lane];
    apply_atomic(wave, instruction, at, value, compare, lane);
  });
}

void run_load_to_lds(Wave& wave, const Instruction& instruction) {
  const Resource resource = read_resource(wave, instruction);
  const uint64_t number = wave.waits.issue(Counter::kVector, false, Operand());
  const uint32_t stride = instruction.width < 4 ? 4 : instruction.width;
  for_lanes(wave.exec(), [&](int lane) {
    uint8_t bytes[16];
    read_place(wave, place_of(wave, instruction, resource, lane), lane, bytes);
    const uint32_t address = (wave.s[kM0] & 0xffff) + static_cast<uint32_t>(instruction.offset) + lane * stride;
    memcpy(lds_pointer(wave, address, stride, LdsChecker::kWrite, lane, instruction.address), bytes, stride);
    if (wave.waits.enabled()) wave.block->lds_checker.note_arrival(wave.number, address, stride, number);
  });
}

void decode_operands(const Syntax& syntax, bool has_data, bool data_is_source, int registers,
                     Instruction* instruction) {
  size_t next = 0;
  if (has_data) {
    const Operand data = vector_registers(syntax.operands.at(next++), registers);
    if (data_is_source) instruction->sources[kData] = data;
    if (!data_is_source || instruction->brings_data) instruction->destination = data;
  }
  instruction->sources[kAddress] = parse_operand(syntax.operands.at(next++), ValueType::kU32);
  instruction->sources[kResource] = parse_operand(syntax.operands.at(next++), ValueType::kU32);
  instruction->sources[kScalarOffset] = parse_operand(syntax.operands.at(next++), ValueType::kU32);
  if (instruction->sources[kResource].count != 4) throw NotModelled{"the resource"};
  if (syntax.has("offen")) instruction->flags |= kOffsetEnabled;
  if (syntax.has("idxen")) instruction->flags |= kIndexEnabled;
  const int needed = syntax.has("offen") + syntax.has("idxen");
  if (instruction->sources[kAddress].count < needed) throw NotModelled{"the address"};
}

void decode_transfer(const Syntax& syntax, bool load, const std::string& type, Instruction* instruction) {
  if (!parse_format(type, &instruction->format)) throw NotModelled{"type " + type};
  instruction->width = instruction->format.bytes;
  const bool to_lds = syntax.has("lds");
  instruction->brings_data = load && !to_lds;
  instruction->cls = to_lds ? GFXSIM_CLASS_VMEM_LDS : load ? GFXSIM_CLASS_VMEM_LOAD : GFXSIM_CLASS_VMEM_STORE;
  instruction->run = to_lds ? run_load_to_lds : load ? run_load : run_store;
  if (to_lds) instruction->counter = Counter::kNone;  // its handler counts it
  decode_operands(syntax, !to_lds, !load, instruction->format.dwords(), instruction);
}

}  // namespace

bool decode_buffer(const Syntax& syntax, Instruction* instruction) {
  if (!starts_with(syntax.mnemonic, "buffer_")) return false;
  const std::string rest = syntax.mnemonic.substr(strlen("buffer_"));
  instruction->counter = Counter::kVector;
  instruction->offset = syntax.integer("offset", 0);
  instruction->source_count = 4;
  if (starts_with(rest, "load_")) {
    decode_transfer(syntax, true, rest.substr(strlen("load_")), instruction);
    return true;
  }
  if (starts_with(rest, "store_")) {
    decode_transfer(syntax, false, rest.substr(strlen("store_")), instruction);
    return true;
  }
  if (!starts_with(rest, "atomic_")) return false;
  const AtomicOp* op = find_atomic(rest.substr(strlen("atomic_")));
  if (op == nullptr) return false;
  instruction->run = run_atomic;
  instruction->cls = GFXSIM_CLASS_VMEM_ATOMIC;
  instruction->atomic = op->run;
  instruction->width = op->bytes;
  instruction->brings_data = syntax.has("sc0");
  instruction->offset2 = op->compares;
  decode_operands(syntax, true, true, op->bytes / 4 * (op->compares ? 2 : 1), instruction);
  return true;
}

}  // namespace gfxsim
