// Checked pointers into the three memories of a lane, and how registers are loaded from and stored to them.
#pragma once

#include <cstring>

#include "syntax.h"
#include "wave.h"

namespace gfxsim {

inline uint8_t* global_pointer(Wave& wave, uint64_t address, uint32_t bytes, Access access, int lane) {
  check_access(*wave.memory, &wave.memory_cache, address, bytes, access, lane);
  return reinterpret_cast<uint8_t*>(address);
}

[[noreturn]] void fail_lds(const Wave& wave, uint64_t address, uint32_t bytes, int lane);
[[noreturn]] void fail_scratch(const Wave& wave, uint64_t address, uint32_t bytes, int lane);

inline uint8_t* lds_pointer(Wave& wave, uint32_t address, uint32_t bytes, LdsChecker::Kind kind, int lane,
                            uint64_t pc) {
  Block& block = *wave.block;
  if (uint64_t{address} + bytes > block.lds.size()) fail_lds(wave, address, bytes, lane);
  if (kind == LdsChecker::kRead) {
    block.lds_checker.check_arrived(wave.number, address, bytes, wave.waits.vector_done());
  }
  block.lds_checker.note(kind, wave.number, address, bytes, pc);
  return block.lds.data() + address;
}

inline uint8_t* scratch_pointer(Wave& wave, uint64_t offset, uint32_t bytes, int lane) {
  const uint64_t size = wave.block->scratch_bytes;
  if (offset > size || bytes > size - offset) fail_scratch(wave, offset, bytes, lane);
  return wave.lane_scratch(lane) + offset;
}

// Any of the three, as a flat address says.
inline uint8_t* flat_pointer(Wave& wave, uint64_t address, uint32_t bytes, LdsChecker::Kind kind, int lane,
                             uint64_t pc) {
  const uint32_t low = static_cast<uint32_t>(address);
  if (address >> 32 == kSharedAperture) return lds_pointer(wave, low, bytes, kind, lane, pc);
  if (address >> 32 == kPrivateAperture) return scratch_pointer(wave, low, bytes, lane);
  return global_pointer(wave, address, bytes, kind == LdsChecker::kRead ? Access::kRead : Access::kWrite, lane);
}

// One lane's registers from memory and back.
inline void load_lane(const uint8_t* from, const DataFormat& format, int first, int lane, Wave* wave) {
  if (format.bytes >= 4) {
    uint32_t dwords[4];
    memcpy(dwords, from, format.bytes);
    for (int i = 0; i < format.dwords(); ++i) wave->v[first + i][lane] = dwords[i];
    return;
  }
  uint32_t value;
  if (format.bytes == 1) {
    value = format.sign ? static_cast<uint32_t>(static_cast<int8_t>(*from)) : *from;
  } else {
    uint16_t bits;
    memcpy(&bits, from, sizeof(bits));
    value = format.sign ? static_cast<uint32_t>(static_cast<int16_t>(bits)) : bits;
  }
  uint32_t& to = wave->v[first][lane];
  if (!format.half) {
    to = value;
  } else {
    to = format.high ? (to & 0xffff) | value << 16 : (to & 0xffff0000) | (value & 0xffff);
  }
}

inline void store_lane(const Wave& wave, int first, int lane, const DataFormat& format, uint8_t* to) {
  if (format.bytes >= 4) {
    uint32_t dwords[4];
    for (int i = 0; i < format.dwords(); ++i) dwords[i] = wave.v[first + i][lane];
    memcpy(to, dwords, format.bytes);
    return;
  }
  const uint32_t value = wave.v[first][lane] >> (format.high ? 16 : 0);
  memcpy(to, &value, format.bytes);  // little endian: the low bytes
}

// "dwordx4", "ubyte_d16_hi", "b128", "u16", "short": the ways the ISA names what is loaded or stored.
bool parse_format(const std::string& name, DataFormat* format);

// The operation of "add", "smin", "cmpswap_x2", "pk_add_bf16", ...; null where there is none.
struct AtomicOp {
  const char* name;
  AtomicFunction run;
  uint8_t bytes;
  bool compares;
};
const AtomicOp* find_atomic(const std::string& name);

// Applies the instruction's atomic operation for one lane: data in source 1's registers, the value that cmpswap
// compares with behind it. Gives the old value to the destination where the instruction has one.
void apply_atomic(Wave& wave, const Instruction& instruction, uint8_t* at, uint64_t data, uint64_t compare, int lane);

// An operand that must be vector registers; `count` of them where that is not 0.
Operand vector_registers(const std::string& text, int count);

}  // namespace gfxsim
