// Vector instructions that look at more than their own lane: lane reads and writes, swaps, counts of lower lanes.
#include <algorithm>
#include <utility>

#include "decoder.h"
#include "vector.h"

namespace gfxsim {
namespace {

constexpr int kRow16 = 16;
constexpr int kRow32 = 32;

void run_nothing(Wave&, const Instruction&) {}

void run_read_first_lane(Wave& wave, const Instruction& instruction) {
  const uint64_t exec = wave.exec();
  const int lane = exec == 0 ? 0 : __builtin_ctzll(exec);
  const Operand& source = instruction.sources[0];
  wave.s[instruction.destination.index] = source.is_vector() ? wave.v[source.index][lane] : read32(wave, source);
}

void run_read_lane(Wave& wave, const Instruction& instruction) {
  const int lane = read32(wave, instruction.sources[1]) % kLanes;
  wave.s[instruction.destination.index] = wave.v[instruction.sources[0].index][lane];
}

void run_write_lane(Wave& wave, const Instruction& instruction) {
  const int lane = read32(wave, instruction.sources[1]) % kLanes;
  wave.v[instruction.destination.index][lane] = read32(wave, instruction.sources[0]);
}

void run_swap(Wave& wave, const Instruction& instruction) {
  uint32_t* first = wave.v[instruction.destination.index];
  uint32_t* second = wave.v[instruction.sources[0].index];
  for_lanes(wave.exec(), [=](int lane) { std::swap(first[lane], second[lane]); });
}

// The odd rows of the first register change places with the even rows of the second.
template <int kRow>
void run_swap_rows(Wave& wave, const Instruction& instruction) {
  uint32_t* first = wave.v[instruction.destination.index];
  uint32_t* second = wave.v[instruction.sources[0].index];
  const uint64_t exec = wave.exec();
  for (int lane = 0; lane < kLanes; ++lane) {
    const int partner = lane + kRow;
    if (lane / kRow % 2 != 0 || (exec >> lane & 1) == 0 || (exec >> partner & 1) == 0) continue;
    std::swap(first[partner], second[lane]);
  }
}

// Set bits of the mask below each lane: lanes 0..31 by the low instruction, 32..63 by the high one.
template <bool kHigh>
void run_count_below(Wave& wave, const Instruction& instruction) {
  LaneRow space[2];
  const uint32_t* mask = fetch(wave, instruction.sources[0], ValueType::kU32, &space[0]);
  const uint32_t* base = fetch(wave, instruction.sources[1], ValueType::kU32, &space[1]);
  uint32_t result[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int bits = std::min(std::max(kHigh ? lane - 32 : lane, 0), 32);
    const uint32_t below = static_cast<uint32_t>((uint64_t{1} << bits) - 1);
    result[lane] = static_cast<uint32_t>(__builtin_popcount(mask[lane] & below)) + base[lane];
  }
  write_lanes(wave.exec(), result, wave.v[instruction.destination.index]);
}

struct CrossLaneOp {
  const char* name;
  Handler run;
  bool scalar_result;
  int sources;
};
constexpr CrossLaneOp kOps[] = {
    {"v_readfirstlane_b32", run_read_first_lane, true, 1},
    {"v_readlane_b32", run_read_lane, true, 2},
    {"v_writelane_b32", run_write_lane, false, 2},
    {"v_swap_b32", run_swap, false, 1},
    {"v_permlane16_swap_b32", run_swap_rows<kRow16>, false, 1},
    {"v_permlane32_swap_b32", run_swap_rows<kRow32>, false, 1},
    {"v_mbcnt_lo_u32_b32", run_count_below<false>, false, 2},
    {"v_mbcnt_hi_u32_b32", run_count_below<true>, false, 2},
};

}  // namespace

bool decode_cross_lane(const Syntax& syntax, Instruction* instruction) {
  instruction->cls = GFXSIM_CLASS_VALU;
  if (syntax.mnemonic == "v_nop") {
    instruction->run = run_nothing;
    return true;
  }
  for (const CrossLaneOp& op : kOps) {
    if (syntax.mnemonic != op.name) continue;
    if (static_cast<int>(syntax.operands.size()) != op.sources + 1 || !syntax.modifiers.empty()) {
      throw NotModelled{"the operands"};
    }
    instruction->run = op.run;
    instruction->destination =
        op.scalar_result ? parse_operand(syntax.operands[0], ValueType::kU32) : vector_destination(syntax.operands[0]);
    for (int i = 0; i < op.sources; ++i) {
      instruction->add_source(parse_operand(syntax.operands[i + 1], ValueType::kU32));
    }
    return true;
  }
  return false;
}

}  // namespace gfxsim
