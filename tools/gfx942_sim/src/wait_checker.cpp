#include "wait_checker.h"

#include <cstring>
#include <string>

#include "error.h"

namespace gfxsim {
namespace {

std::string register_name(int index) {
  if (index >= kVectorRegisters) return "s" + std::to_string(index - kVectorRegisters);
  if (index >= kFirstAccumulator) return "a" + std::to_string(index - kFirstAccumulator);
  return "v" + std::to_string(index);
}

}  // namespace

void WaitChecker::reset(bool enabled) {
  enabled_ = enabled;
  pending_any_ = 0;
  memset(pending_, 0, sizeof(pending_));
  vector_ = lgkm_ = Count();
  last_scalar_ = 0;
}

uint64_t WaitChecker::issue(Counter counter, bool scalar_memory, const Operand& brought) {
  if (!enabled_) return 0;
  Count& count = counter == Counter::kVector ? vector_ : lgkm_;
  ++count.issued;
  if (scalar_memory) last_scalar_ = count.issued;
  if (brought.kind != Operand::kVector && brought.kind != Operand::kScalar) return count.issued;
  const int first = brought.index + (brought.kind == Operand::kScalar ? kVectorRegisters : 0);
  for (int index = first; index < first + brought.count; ++index) {
    const uint64_t bit = uint64_t{1} << (index % 64);
    pending_any_ += (pending_[index / 64] & bit) == 0;
    pending_[index / 64] |= bit;
    number_[index] = count.issued;
    counter_[index] = counter;
  }
  return count.issued;
}

void WaitChecker::wait_vector(uint32_t allowed) {
  if (vector_.issued <= vector_.done + allowed) return;
  vector_.done = vector_.issued - allowed;
  settle();
}

void WaitChecker::wait_lgkm(uint32_t allowed) {
  if (lgkm_.issued <= lgkm_.done + allowed) return;
  if (allowed != 0 && last_scalar_ > lgkm_.done) return;  // any of them may be the one that is still under way
  lgkm_.done = lgkm_.issued - allowed;
  settle();
}

// Forgets the registers whose operation is done.
void WaitChecker::settle() {
  for (int word = 0; word < kRegisters / 64; ++word) {
    for (uint64_t rest = pending_[word]; rest != 0; rest &= rest - 1) {
      const int index = word * 64 + __builtin_ctzll(rest);
      const Count& count = counter_[index] == Counter::kVector ? vector_ : lgkm_;
      if (number_[index] > count.done) continue;
      pending_[word] &= ~(uint64_t{1} << (index % 64));
      --pending_any_;
    }
  }
}

void WaitChecker::check_range(int first, int count, const Instruction& instruction) {
  for (int index = first; index < first + count; ++index) {
    if ((pending_[index / 64] >> (index % 64) & 1) == 0) continue;
    // Loads of one counter that complete in order may follow each other into a register.
    const bool in_order = instruction.counter == counter_[index] && !instruction.scalar_memory &&
                          instruction.brings_data && instruction.destination.kind == Operand::kVector &&
                          index >= instruction.destination.index &&
                          index < instruction.destination.index + instruction.destination.count;
    if (in_order) continue;
    throw Error(GFXSIM_HAZARD,
                format("%s is used before s_waitcnt %s covers the load that brings it", register_name(index).c_str(),
                       counter_[index] == Counter::kVector ? "vmcnt" : "lgkmcnt"));
  }
}

}  // namespace gfxsim
