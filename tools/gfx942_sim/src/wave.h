// The state of one wave and of the block it belongs to.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "error.h"
#include "instruction.h"
#include "lds_checker.h"
#include "memory_map.h"
#include "program.h"
#include "wait_checker.h"

namespace gfxsim {

// What registers, LDS and scratch hold at first: NaN as a float of any width, out of bounds as an address.
constexpr uint32_t kPoison = 0xffcdffcd;

struct Block {
  uint32_t id[3];
  std::vector<uint8_t> lds;
  std::vector<uint8_t> scratch;  // of every lane of every wave
  uint32_t scratch_bytes = 0;    // a lane
  LdsChecker lds_checker;
};

enum class WaveState : uint8_t { kRunning, kYielded, kAtBarrier, kEnded };

struct Wave {
  alignas(64) uint32_t v[kVectorRegisters][kLanes];
  uint32_t s[kScalarRegisters];
  bool scc = false;
  WaveState state = WaveState::kRunning;
  uint8_t index_mode = 0;  // of s_set_gpr_idx_on: bits for source 0, 1, 2 and the destination
  uint32_t number = 0;     // in the block
  uint32_t next = 0;       // slot in the program
  uint64_t executed = 0;
  Block* block = nullptr;
  const Program* program = nullptr;
  const MemorySnapshot* memory = nullptr;
  MemoryCache memory_cache;
  WaitChecker waits;

  uint64_t pair(int index) const {
    uint64_t value;
    memcpy(&value, &s[index], sizeof(value));
    return value;
  }
  void set_pair(int index, uint64_t value) { memcpy(&s[index], &value, sizeof(value)); }
  uint64_t exec() const { return pair(kExec); }
  uint64_t vector_pair(int index, int lane) const { return v[index][lane] | uint64_t{v[index + 1][lane]} << 32; }

  uint8_t* lane_scratch(int lane) {
    return block->scratch.data() + (uint64_t{number} * kLanes + lane) * block->scratch_bytes;
  }
};

// Calls body(lane) for every lane whose bit in `mask` is set.
template <class Body>
inline void for_lanes(uint64_t mask, const Body& body) {
  if (mask == ~uint64_t{0}) {
    for (int lane = 0; lane < kLanes; ++lane) body(lane);
    return;
  }
  for (uint64_t rest = mask; rest != 0; rest &= rest - 1) body(__builtin_ctzll(rest));
}

// The value of a scalar operand: a register, a literal or the condition code.
inline uint32_t read32(const Wave& wave, const Operand& operand) {
  switch (operand.kind) {
    case Operand::kScalar:
      return wave.s[operand.index];
    case Operand::kScc:
      return wave.scc;
    default:
      return static_cast<uint32_t>(operand.literal);
  }
}

inline uint64_t read64(const Wave& wave, const Operand& operand) {
  switch (operand.kind) {
    case Operand::kScalar:
      return wave.pair(operand.index);
    case Operand::kScc:
      return wave.scc;
    default:
      return operand.literal;
  }
}

}  // namespace gfxsim
