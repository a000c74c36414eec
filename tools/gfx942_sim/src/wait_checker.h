// Checks that nothing uses a register before an s_waitcnt covers the load that brings it. Hardware counts the memory
// operations of a wave that are under way: vmcnt for vector memory, lgkmcnt for LDS and scalar memory. Vector memory
// and LDS complete in order, so waiting for vmcnt(n) leaves the n latest; scalar loads do not, so only lgkmcnt(0)
// covers them.
#pragma once

#include <cstdint>

#include "instruction.h"

namespace gfxsim {

class WaitChecker {
 public:
  void reset(bool enabled);

  // Throws a GFXSIM_HAZARD where `instruction` touches a register that is still on its way.
  void check(const Instruction& instruction) {
    if (pending_any_ == 0) return;
    check_operand(instruction.destination, instruction);
    for (int i = 0; i < instruction.source_count; ++i) check_operand(instruction.sources[i], instruction);
    if (instruction.second.kind != Operand::kAbsent) check_operand(instruction.second, instruction);
  }

  // A memory operation begins; `brought` (which may be absent) arrives with it. Returns its number on the counter.
  uint64_t issue(Counter counter, bool scalar_memory, const Operand& brought);

  void wait_vector(uint32_t allowed);
  void wait_lgkm(uint32_t allowed);

  bool enabled() const { return enabled_; }
  // The latest vector memory operation that was waited for.
  uint64_t vector_done() const { return vector_.done; }

 private:
  struct Count {
    uint64_t issued = 0;
    uint64_t done = 0;
  };

  void check_operand(const Operand& operand, const Instruction& instruction) {
    if (operand.kind == Operand::kVector) {
      check_range(operand.index, operand.count, instruction);
    } else if (operand.kind == Operand::kScalar) {
      check_range(kVectorRegisters + operand.index, operand.count, instruction);
    }
  }
  void check_range(int first, int count, const Instruction& instruction);
  void settle();

  static constexpr int kRegisters = kVectorRegisters + kScalarRegisters;
  bool enabled_ = false;
  int pending_any_ = 0;  // registers in pending_
  uint64_t pending_[kRegisters / 64];
  uint64_t number_[kRegisters];  // of the operation that brings the register
  Counter counter_[kRegisters];
  Count vector_, lgkm_;
  uint64_t last_scalar_ = 0;  // number of the latest scalar load
};

}  // namespace gfxsim
