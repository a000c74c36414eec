// ds_*: LDS reads, writes and atomic operations, and the permutations that go through LDS hardware without touching it.
#include "decoder.h"
#include "memory_access.h"
#include "vector.h"

namespace gfxsim {
namespace {

// Source 0: the lane's address. 1 and 2: data.
constexpr int kAddress = 0, kData = 1, kSecondData = 2;

uint8_t* lane_pointer(Wave& wave, const Instruction& instruction, int64_t offset, LdsChecker::Kind kind, int lane) {
  const uint32_t address = wave.v[instruction.sources[kAddress].index][lane] + static_cast<uint32_t>(offset);
  return lds_pointer(wave, address, instruction.width, kind, lane, instruction.address);
}

void run_read(Wave& wave, const Instruction& instruction) {
  for_lanes(wave.exec(), [&](int lane) {
    const uint8_t* from = lane_pointer(wave, instruction, instruction.offset, LdsChecker::kRead, lane);
    load_lane(from, instruction.format, instruction.destination.index, lane, &wave);
  });
}

// ds_read_b64_tr_b16: of each 16 lanes, lane 4 q + r gets the r-th halfwords that lanes q, q + 4, q + 8 and q + 12
// name.
void run_read_transposed(Wave& wave, const Instruction& instruction) {
  if (wave.exec() != ~uint64_t{0}) {
    throw Error(GFXSIM_UNKNOWN_INSTRUCTION, "a transposing read without all lanes is not modelled");
  }
  uint16_t named[kLanes][4];
  for (int lane = 0; lane < kLanes; ++lane) {
    memcpy(named[lane], lane_pointer(wave, instruction, instruction.offset, LdsChecker::kRead, lane), sizeof(named[0]));
  }
  const int first = instruction.destination.index;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int from = lane / 16 * 16 + lane % 16 / 4, place = lane % 4;
    wave.v[first][lane] = named[from][place] | uint32_t{named[from + 4][place]} << 16;
    wave.v[first + 1][lane] = named[from + 8][place] | uint32_t{named[from + 12][place]} << 16;
  }
}

void run_read2(Wave& wave, const Instruction& instruction) {
  const int first = instruction.destination.index;
  const int second = first + instruction.format.dwords();
  for_lanes(wave.exec(), [&](int lane) {
    const uint8_t* low = lane_pointer(wave, instruction, instruction.offset, LdsChecker::kRead, lane);
    const uint8_t* high = lane_pointer(wave, instruction, instruction.offset2, LdsChecker::kRead, lane);
    load_lane(low, instruction.format, first, lane, &wave);
    load_lane(high, instruction.format, second, lane, &wave);
  });
}

void run_write(Wave& wave, const Instruction& instruction) {
  for_lanes(wave.exec(), [&](int lane) {
    uint8_t* to = lane_pointer(wave, instruction, instruction.offset, LdsChecker::kWrite, lane);
    store_lane(wave, instruction.sources[kData].index, lane, instruction.format, to);
  });
}

void run_write2(Wave& wave, const Instruction& instruction) {
  for_lanes(wave.exec(), [&](int lane) {
    uint8_t* low = lane_pointer(wave, instruction, instruction.offset, LdsChecker::kWrite, lane);
    uint8_t* high = lane_pointer(wave, instruction, instruction.offset2, LdsChecker::kWrite, lane);
    store_lane(wave, instruction.sources[kData].index, lane, instruction.format, low);
    store_lane(wave, instruction.sources[kSecondData].index, lane, instruction.format, high);
  });
}

uint64_t lane_data(const Wave& wave, const Instruction& instruction, int source, int lane) {
  const int index = instruction.sources[source].index;
  return instruction.width == 8 ? wave.vector_pair(index, lane) : wave.v[index][lane];
}

void run_atomic(Wave& wave, const Instruction& instruction) {
  const bool compares = instruction.flags != 0;
  for_lanes(wave.exec(), [&](int lane) {
    uint8_t* at = lane_pointer(wave, instruction, instruction.offset, LdsChecker::kAtomic, lane);
    const uint64_t first = lane_data(wave, instruction, kData, lane);
    const uint64_t data = compares ? lane_data(wave, instruction, kSecondData, lane) : first;
    apply_atomic(wave, instruction, at, data, first, lane);
  });
}

// Each lane reads the lane it names; lanes that EXEC leaves out give 0.
void run_backward_permute(Wave& wave, const Instruction& instruction) {
  const uint64_t exec = wave.exec();
  const uint32_t* address = wave.v[instruction.sources[kAddress].index];
  const uint32_t* data = wave.v[instruction.sources[kData].index];
  uint32_t result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint32_t from = (address[lane] + static_cast<uint32_t>(instruction.offset)) / 4 % kLanes;
    result[lane] = exec >> from & 1 ? data[from] : 0;
  }
  write_lanes(exec, result, wave.v[instruction.destination.index]);
}

// Each lane sends to the lane it names; of several senders the last one counts.
void run_permute(Wave& wave, const Instruction& instruction) {
  const uint32_t* address = wave.v[instruction.sources[kAddress].index];
  const uint32_t* data = wave.v[instruction.sources[kData].index];
  uint32_t result[kLanes] = {};
  for_lanes(wave.exec(), [&](int lane) {
    result[(address[lane] + static_cast<uint32_t>(instruction.offset)) / 4 % kLanes] = data[lane];
  });
  write_lanes(wave.exec(), result, wave.v[instruction.destination.index]);
}

// The offset's bit 15 chooses between a permutation of each quad and masks on the number within 32 lanes.
void run_swizzle(Wave& wave, const Instruction& instruction) {
  const uint64_t exec = wave.exec();
  const uint32_t pattern = static_cast<uint32_t>(instruction.offset);
  const uint32_t* data = wave.v[instruction.sources[kAddress].index];
  uint32_t result[kLanes];
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t masked = (((lane & 31) & (pattern & 31)) | (pattern >> 5 & 31)) ^ (pattern >> 10 & 31);
    const uint32_t quad = (lane & ~3u) | (pattern >> (2 * (lane & 3)) & 3);
    const uint32_t from = pattern & 0x8000 ? quad : (lane & 32) | masked;
    result[lane] = exec >> from & 1 ? data[from] : 0;
  }
  write_lanes(exec, result, wave.v[instruction.destination.index]);
}

// swizzle(SWAP,16) and its like, as the number they stand for.
int64_t swizzle_pattern(const std::string& text) {
  if (!starts_with(text, "swizzle(")) return parse_integer(text);
  int values[4] = {};
  const char* arguments = text.c_str() + strlen("swizzle(");
  if (sscanf(arguments, "QUAD_PERM,%d,%d,%d,%d", &values[0], &values[1], &values[2], &values[3]) == 4) {
    return 0x8000 | values[0] | values[1] << 2 | values[2] << 4 | values[3] << 6;
  }
  if (sscanf(arguments, "SWAP,%d", &values[0]) == 1) return values[0] << 10 | 31;
  if (sscanf(arguments, "REVERSE,%d", &values[0]) == 1) return (values[0] - 1) << 10 | 31;
  if (sscanf(arguments, "BROADCAST,%d,%d", &values[0], &values[1]) == 2) return values[1] << 5 | (32 - values[0]);
  char mask[6] = {};
  if (sscanf(arguments, "BITMASK_PERM,\"%5[01pi]\"", mask) != 1) throw NotModelled{text};
  int64_t pattern = 0;
  for (int i = 0; i < 5; ++i) {
    const int bit = 4 - i;
    if (mask[i] == 'p' || mask[i] == 'i') pattern |= 1 << bit;  // the lane's own bit,
    if (mask[i] == '1') pattern |= 1 << (bit + 5);              // one,
    if (mask[i] == 'i') pattern |= 1 << (bit + 10);             // or the bit inverted
  }
  return pattern;
}

bool decode_permutation(const Syntax& syntax, Instruction* instruction) {
  const bool swizzle = syntax.mnemonic == "ds_swizzle_b32";
  const bool backward = syntax.mnemonic == "ds_bpermute_b32";
  if (!swizzle && !backward && syntax.mnemonic != "ds_permute_b32") return false;
  instruction->cls = GFXSIM_CLASS_LDS_PERMUTE;
  instruction->run = swizzle ? run_swizzle : backward ? run_backward_permute : run_permute;
  instruction->brings_data = true;
  instruction->destination = vector_registers(syntax.operands.at(0), 1);
  instruction->add_source(vector_registers(syntax.operands.at(1), 1));
  if (!swizzle) instruction->add_source(vector_registers(syntax.operands.at(2), 1));
  const std::string* offset = syntax.find("offset");
  if (offset != nullptr) instruction->offset = swizzle ? swizzle_pattern(*offset) : parse_integer(*offset);
  return true;
}

// ds_read2_b64 and its like: two accesses whose offsets count in elements, or in 64 elements.
bool decode_two(const Syntax& syntax, Instruction* instruction) {
  const bool read = starts_with(syntax.mnemonic, "ds_read2");
  if (!read && !starts_with(syntax.mnemonic, "ds_write2")) return false;
  const bool far = syntax.mnemonic.find("st64") != std::string::npos;
  const std::string type = syntax.mnemonic.substr(syntax.mnemonic.rfind('_') + 1);
  if (!parse_format(type, &instruction->format)) return false;
  const int registers = instruction->format.dwords();
  const int64_t unit = instruction->format.bytes * (far ? 64 : 1);
  instruction->offset = syntax.integer("offset0", 0) * unit;
  instruction->offset2 = syntax.integer("offset1", 0) * unit;
  instruction->run = read ? run_read2 : run_write2;
  instruction->cls = read ? GFXSIM_CLASS_LDS_READ : GFXSIM_CLASS_LDS_WRITE;
  instruction->brings_data = read;
  size_t next = 0;
  if (read) instruction->destination = vector_registers(syntax.operands.at(next++), 2 * registers);
  instruction->add_source(vector_registers(syntax.operands.at(next++), 1));
  if (!read) {
    instruction->add_source(vector_registers(syntax.operands.at(next++), registers));
    instruction->add_source(vector_registers(syntax.operands.at(next++), registers));
  }
  return true;
}

bool decode_one(const Syntax& syntax, Instruction* instruction) {
  const bool transposes = syntax.mnemonic == "ds_read_b64_tr_b16";
  const bool read = starts_with(syntax.mnemonic, "ds_read_");
  if (!read && !starts_with(syntax.mnemonic, "ds_write_")) return false;
  const std::string type = transposes ? "b64" : syntax.mnemonic.substr(strlen(read ? "ds_read_" : "ds_write_"));
  if (!parse_format(type, &instruction->format)) return false;
  instruction->offset = syntax.integer("offset", 0);
  instruction->run = transposes ? run_read_transposed : read ? run_read : run_write;
  instruction->cls = read ? GFXSIM_CLASS_LDS_READ : GFXSIM_CLASS_LDS_WRITE;
  instruction->brings_data = read;
  const int registers = instruction->format.dwords();
  if (read) instruction->destination = vector_registers(syntax.operands.at(0), registers);
  instruction->add_source(vector_registers(syntax.operands.at(read ? 1 : 0), 1));
  if (!read) instruction->add_source(vector_registers(syntax.operands.at(1), registers));
  return true;
}

// The name that global memory gives to the atomic operation ds_<name>_<type>.
std::string atomic_name(const std::string& name, const std::string& type) {
  const std::string wide = ends_with(type, "64") ? "_x2" : "";
  const bool is_float = type[0] == 'f';
  if (is_float || type == "bf16") return name + "_" + type;
  if (name == "min" || name == "max") return (type[0] == 'i' ? "s" : "u") + name + wide;
  if (name == "wrxchg") return "swap" + wide;
  if (name == "cmpst") return "cmpswap" + wide;
  return name + wide;
}

bool decode_atomic(const Syntax& syntax, Instruction* instruction) {
  std::string name = syntax.mnemonic.substr(strlen("ds_"));
  const size_t cut = name.rfind('_');
  if (cut == std::string::npos) return false;
  const std::string type = name.substr(cut + 1);
  name.resize(cut);
  const bool returns = ends_with(name, "_rtn");
  if (returns) name.resize(name.size() - strlen("_rtn"));
  const AtomicOp* op = find_atomic(atomic_name(name, type));
  if (op == nullptr) return false;
  instruction->run = run_atomic;
  instruction->cls = GFXSIM_CLASS_LDS_ATOMIC;
  instruction->atomic = op->run;
  instruction->format.bytes = op->bytes;
  instruction->flags = op->compares;
  instruction->brings_data = returns;
  instruction->offset = syntax.integer("offset", 0);
  size_t next = 0;
  if (returns) instruction->destination = vector_registers(syntax.operands.at(next++), op->bytes / 4);
  instruction->add_source(vector_registers(syntax.operands.at(next++), 1));
  instruction->add_source(vector_registers(syntax.operands.at(next++), op->bytes / 4));
  if (op->compares) instruction->add_source(vector_registers(syntax.operands.at(next++), op->bytes / 4));
  return true;
}

}  // namespace

bool decode_lds(const Syntax& syntax, Instruction* instruction) {
  if (!starts_with(syntax.mnemonic, "ds_")) return false;
  if (syntax.has("gds")) throw NotModelled{"gds"};
  instruction->counter = Counter::kLgkm;
  const bool decoded = decode_permutation(syntax, instruction) || decode_two(syntax, instruction) ||
                       decode_one(syntax, instruction) || decode_atomic(syntax, instruction);
  instruction->width = instruction->format.bytes;
  return decoded;
}

}  // namespace gfxsim
