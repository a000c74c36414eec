// How vector instructions reach their operands: what is common to lane operations, packed and cross-lane ones.
#pragma once

#include <cstdint>

#include "syntax.h"
#include "wave.h"

namespace gfxsim {

// A dword a lane, and the high dwords of 64-bit values behind them.
struct alignas(64) LaneRow {
  uint32_t dwords[2 * kLanes];
};

inline void broadcast(uint32_t value, uint32_t* row) {
  for (int lane = 0; lane < kLanes; ++lane) row[lane] = value;
}

// Writes the lanes of `mask`.
inline void write_lanes(uint64_t mask, const uint32_t* values, uint32_t* row) {
  if (mask == ~uint64_t{0}) {
    memcpy(row, values, kLanes * sizeof(uint32_t));
    return;
  }
  for (int lane = 0; lane < kLanes; ++lane) row[lane] = mask >> lane & 1 ? values[lane] : row[lane];
}

// The values of `operand` in every lane: the register itself, or `space` after it was filled with a broadcast scalar or
// with what modifiers make of a register.
const uint32_t* fetch(const Wave& wave, const Operand& operand, ValueType type, LaneRow* space);

// The destination operand of a vector instruction; throws NotModelled unless it is a vector register.
Operand vector_destination(const std::string& text);

int registers_of(ValueType type);

}  // namespace gfxsim
