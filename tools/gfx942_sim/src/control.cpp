// Branches, calls, barriers, waits, and what has no effect here.
#include <cstdlib>

#include "decoder.h"
#include "wave.h"

namespace gfxsim {
namespace {

void run_nothing(Wave&, const Instruction&) {}

void run_end(Wave& wave, const Instruction&) { wave.state = WaveState::kEnded; }
void run_barrier(Wave& wave, const Instruction&) { wave.state = WaveState::kAtBarrier; }
void run_sleep(Wave& wave, const Instruction&) { wave.state = WaveState::kYielded; }

void run_trap(Wave&, const Instruction&) {
  throw Error(GFXSIM_TRAP, "the kernel executed s_trap: an assertion of its own failed, or it called abort");
}

void run_wait(Wave& wave, const Instruction& instruction) {
  wave.waits.wait_vector(static_cast<uint32_t>(instruction.offset));
  wave.waits.wait_lgkm(static_cast<uint32_t>(instruction.offset2));
}

enum Condition : uint32_t { kAlways, kScc0, kScc1, kVccZero, kVccNonzero, kExecZero, kExecNonzero };

template <Condition kCondition>
void run_branch(Wave& wave, const Instruction& instruction) {
  bool taken = kCondition == kAlways;
  if (kCondition == kScc0) taken = !wave.scc;
  if (kCondition == kScc1) taken = wave.scc;
  if (kCondition == kVccZero) taken = wave.pair(kVcc) == 0;
  if (kCondition == kVccNonzero) taken = wave.pair(kVcc) != 0;
  if (kCondition == kExecZero) taken = wave.exec() == 0;
  if (kCondition == kExecNonzero) taken = wave.exec() != 0;
  if (taken) wave.next = instruction.target;
}

void run_get_pc(Wave& wave, const Instruction& instruction) {
  wave.set_pair(instruction.destination.index, wave.program->base + instruction.address + instruction.size);
}

void run_set_pc(Wave& wave, const Instruction& instruction) {
  wave.next = wave.program->slot(wave.pair(instruction.sources[0].index) - wave.program->base);
}

void run_swap_pc(Wave& wave, const Instruction& instruction) {
  const uint64_t target = wave.pair(instruction.sources[0].index) - wave.program->base;
  run_get_pc(wave, instruction);
  wave.next = wave.program->slot(target);
}

// A clock that counts executed instructions.
void run_clock(Wave& wave, const Instruction& instruction) {
  wave.set_pair(instruction.destination.index, wave.executed);
}

void run_index_on(Wave& wave, const Instruction& instruction) {
  wave.s[kM0] = (wave.s[kM0] & ~0xffu) | (read32(wave, instruction.sources[0]) & 0xff);
  wave.index_mode = static_cast<uint8_t>(instruction.flags);
}
void run_index_off(Wave& wave, const Instruction&) { wave.index_mode = 0; }

struct ControlOp {
  const char* name;
  Handler run;
  gfxsim_class cls;
};

constexpr ControlOp kBranchOps[] = {
    {"s_branch", run_branch<kAlways>, GFXSIM_CLASS_BRANCH},
    {"s_cbranch_scc0", run_branch<kScc0>, GFXSIM_CLASS_BRANCH},
    {"s_cbranch_scc1", run_branch<kScc1>, GFXSIM_CLASS_BRANCH},
    {"s_cbranch_vccz", run_branch<kVccZero>, GFXSIM_CLASS_BRANCH},
    {"s_cbranch_vccnz", run_branch<kVccNonzero>, GFXSIM_CLASS_BRANCH},
    {"s_cbranch_execz", run_branch<kExecZero>, GFXSIM_CLASS_BRANCH},
    {"s_cbranch_execnz", run_branch<kExecNonzero>, GFXSIM_CLASS_BRANCH},
};

// Operands of these are of no consequence here: caches are coherent and there is no timing.
constexpr ControlOp kPlainOps[] = {
    {"s_endpgm", run_end, GFXSIM_CLASS_BRANCH},       {"s_barrier", run_barrier, GFXSIM_CLASS_BARRIER},
    {"s_trap", run_trap, GFXSIM_CLASS_BRANCH},        {"s_sleep", run_sleep, GFXSIM_CLASS_WAIT},
    {"s_nop", run_nothing, GFXSIM_CLASS_WAIT},        {"s_set_gpr_idx_off", run_index_off, GFXSIM_CLASS_SALU},
    {"s_setprio", run_nothing, GFXSIM_CLASS_SALU},    {"s_sethalt", run_trap, GFXSIM_CLASS_BRANCH},
    {"s_sendmsg", run_nothing, GFXSIM_CLASS_SALU},    {"s_icache_inv", run_nothing, GFXSIM_CLASS_SMEM},
    {"s_dcache_inv", run_nothing, GFXSIM_CLASS_SMEM}, {"s_dcache_wb", run_nothing, GFXSIM_CLASS_SMEM},
    {"s_ttracedata", run_nothing, GFXSIM_CLASS_SALU}, {"buffer_inv", run_nothing, GFXSIM_CLASS_WAIT},
    {"buffer_wbl2", run_nothing, GFXSIM_CLASS_WAIT},
};

// "vmcnt(3) lgkmcnt(0)": a counter that is not named is not waited for.
int64_t wait_count(const std::string& text, const std::string& counter) {
  const size_t at = text.find(counter + "(");
  return at == std::string::npos ? INT32_MAX : atoi(text.c_str() + at + counter.size() + 1);
}

bool decode_branch(const Syntax& syntax, Instruction* instruction) {
  for (const ControlOp& op : kBranchOps) {
    if (syntax.mnemonic != op.name) continue;
    instruction->run = op.run;
    instruction->cls = op.cls;
    instruction->flags = kBranches;
    const auto dwords = static_cast<int16_t>(parse_integer(syntax.operands.at(0)));
    instruction->offset = static_cast<int64_t>(instruction->address) + instruction->size + 4 * dwords;
    return true;
  }
  return false;
}

bool decode_program_counter(const Syntax& syntax, Instruction* instruction) {
  const bool get = syntax.mnemonic == "s_getpc_b64";
  const bool set = syntax.mnemonic == "s_setpc_b64";
  const bool swap = syntax.mnemonic == "s_swappc_b64";
  if (!get && !set && !swap) return false;
  instruction->run = get ? run_get_pc : set ? run_set_pc : run_swap_pc;
  instruction->cls = get ? GFXSIM_CLASS_SALU : GFXSIM_CLASS_BRANCH;
  size_t next = 0;
  if (get || swap) instruction->destination = parse_operand(syntax.operands.at(next++), ValueType::kU64);
  if (set || swap) instruction->add_source(parse_operand(syntax.operands.at(next), ValueType::kU64));
  return true;
}

// The mode register: denormals are always kept, so switching them on (around a division) changes nothing.
bool decode_mode(const Syntax& syntax, Instruction* instruction) {
  if (!starts_with(syntax.mnemonic, "s_setreg")) return false;
  if (syntax.text.find("HW_REG_MODE, 4, 2") == std::string::npos) throw NotModelled{"the hardware register"};
  instruction->run = run_nothing;
  return true;
}

bool decode_index_on(const Syntax& syntax, Instruction* instruction) {
  if (syntax.mnemonic != "s_set_gpr_idx_on") return false;
  static const char* const kNames[] = {"SRC0", "SRC1", "SRC2", "DST"};
  instruction->run = run_index_on;
  instruction->add_source(parse_operand(syntax.operands.at(0), ValueType::kU32));
  for (int i = 0; i < 4; ++i) {
    if (syntax.text.find(kNames[i]) != std::string::npos) instruction->flags |= 1 << i;
  }
  return true;
}

bool decode_clock(const Syntax& syntax, Instruction* instruction) {
  if (syntax.mnemonic != "s_memtime" && syntax.mnemonic != "s_memrealtime") return false;
  instruction->run = run_clock;
  instruction->cls = GFXSIM_CLASS_SMEM;
  instruction->destination = parse_operand(syntax.operands.at(0), ValueType::kU64);
  instruction->counter = Counter::kLgkm;
  instruction->scalar_memory = instruction->brings_data = true;
  return true;
}

}  // namespace

bool decode_control(const Syntax& syntax, Instruction* instruction) {
  if (syntax.mnemonic == "s_waitcnt") {
    instruction->run = run_wait;
    instruction->cls = GFXSIM_CLASS_WAIT;
    // A bare number means that LLVM printed an encoding it has no names for.
    if (syntax.text.find("cnt(") == std::string::npos) throw NotModelled{"the counters"};
    instruction->offset = wait_count(syntax.text, "vmcnt");
    instruction->offset2 = wait_count(syntax.text, "lgkmcnt");
    return true;
  }
  for (const ControlOp& op : kPlainOps) {
    if (syntax.mnemonic != op.name) continue;
    instruction->run = op.run;
    instruction->cls = op.cls;
    return true;
  }
  return decode_branch(syntax, instruction) || decode_program_counter(syntax, instruction) ||
         decode_mode(syntax, instruction) || decode_index_on(syntax, instruction) || decode_clock(syntax, instruction);
}

}  // namespace gfxsim
