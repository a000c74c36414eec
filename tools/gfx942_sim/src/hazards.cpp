#include "hazards.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "decoder.h"
#include "error.h"

namespace gfxsim {
namespace {

// Distances as LLVM has them for gfx942 (GCNHazardRecognizer.cpp), after the tables of AMD's ISA documents.
constexpr int kScalarToMemory = 5;      // vector arithmetic writes a scalar register, vector memory reads it
constexpr int kScalarToLaneSelect = 4;  // v_readlane and v_writelane choose the lane by it
constexpr int kVccToDivFmas = 4;
constexpr int kVectorToDpp = 2;       // vector arithmetic writes what data-parallel primitives read
constexpr int kTranscendental = 1;    // its result, read by other vector arithmetic
constexpr int kMatrixDoubleAlu = 11;  // result of v_mfma_f64_16x16x4, read by vector arithmetic
constexpr int kMatrixDoubleMemory = 18;
constexpr int kLongest = 19;

bool is_vector_arithmetic(const Instruction& instruction) {
  return instruction.cls == GFXSIM_CLASS_VALU || instruction.cls == GFXSIM_CLASS_VALU_64 ||
         instruction.cls == GFXSIM_CLASS_TRANS || instruction.cls == GFXSIM_CLASS_ACC_MOVE;
}

bool is_global_memory(const Instruction& instruction) {
  return instruction.cls >= GFXSIM_CLASS_VMEM_LOAD && instruction.cls <= GFXSIM_CLASS_SCRATCH;
}

bool is_memory(const Instruction& instruction) {
  return is_global_memory(instruction) ||
         (instruction.cls >= GFXSIM_CLASS_LDS_READ && instruction.cls <= GFXSIM_CLASS_LDS_ATOMIC);
}

bool overlap(const Operand& a, const Operand& b) {
  return a.kind == b.kind && (a.is_vector() || a.is_scalar()) && a.index < b.index + std::max<int>(b.count, 1) &&
         b.index < a.index + std::max<int>(a.count, 1);
}

bool reads(const Instruction& instruction, const Operand& written, int sources) {
  return std::any_of(instruction.sources.begin(), instruction.sources.begin() + sources,
                     [&written](const Operand& source) { return overlap(source, written); });
}

// Passes of four cycles that a matrix instruction takes, at least.
int passes_of(const MatrixOp& op) {
  if (op.size == 4) return 2;
  const bool slow = op.blocks > 1 || op.a == Element::kF32;
  return (op.size == 32 ? 8 : 4) * (slow ? 2 : 1);
}

int after_matrix(const Instruction& matrix, const std::string& text, const Instruction& later) {
  const bool multiplies = later.cls == GFXSIM_CLASS_MFMA;
  const int sources = multiplies ? 2 : later.source_count;  // accumulators follow each other without a distance
  const bool overwrites = is_vector_arithmetic(later) && overlap(later.destination, matrix.destination);
  if (!multiplies && !is_vector_arithmetic(later) && !is_memory(later)) return 0;
  if (!reads(later, matrix.destination, sources) && !overwrites) return 0;
  if (starts_with(text, "v_mfma_f64")) return is_memory(later) ? kMatrixDoubleMemory : kMatrixDoubleAlu;
  return passes_of(matrix.matrix_op) + (matrix.matrix_op.a == Element::kF32 ? 2 : 3);
}

int after_vector_arithmetic(const Instruction& earlier, const Instruction& later, const std::string& text) {
  int distance = 0;
  for (const Operand* written : {&earlier.destination, &earlier.second}) {
    if (written->is_scalar()) {
      const bool chooses = starts_with(text, "v_readlane") || starts_with(text, "v_writelane");
      if (is_global_memory(later) && reads(later, *written, later.source_count)) distance = kScalarToMemory;
      if (chooses && overlap(later.sources[1], *written)) distance = kScalarToLaneSelect;
      if (starts_with(text, "v_div_fmas") && reads(later, *written, later.source_count)) distance = kVccToDivFmas;
    } else if (written->is_vector() && is_vector_arithmetic(later)) {
      if (later.dpp.used && overlap(later.sources[0], *written)) distance = kVectorToDpp;
      const bool differs = earlier.cls == GFXSIM_CLASS_TRANS && later.cls != GFXSIM_CLASS_TRANS;
      if (differs && reads(later, *written, later.source_count)) distance = std::max(distance, kTranscendental);
    }
  }
  return distance;
}

struct Earlier {
  const Instruction* instruction;
  int states;  // that had passed when it was done
};

// How many states an instruction stands for.
int states_of(const std::string& text) {
  return starts_with(text, "s_nop") ? 1 + static_cast<int>(strtol(text.c_str() + strlen("s_nop"), nullptr, 0)) : 1;
}

}  // namespace

Hazard find_hazard(const std::vector<Instruction>& instructions, const std::vector<std::string>& texts) {
  std::deque<Earlier> recent;
  int states = 0;
  for (size_t slot = 0; slot < instructions.size(); ++slot) {
    const Instruction& later = instructions[slot];
    while (!recent.empty() && states - recent.front().states >= kLongest) recent.pop_front();
    for (const Earlier& earlier : recent) {
      const Instruction& first = *earlier.instruction;
      const std::string& first_text = texts[static_cast<size_t>(&first - instructions.data())];
      const int needed = first.cls == GFXSIM_CLASS_MFMA ? after_matrix(first, first_text, later)
                                                        : after_vector_arithmetic(first, later, texts[slot]);
      if (states - earlier.states >= needed) continue;
      return {slot,
              format("%d instructions or s_nop states between it and %s, of which it uses the result; %d are needed",
                     states - earlier.states, first_text.c_str(), needed)};
    }
    states += states_of(texts[slot]);
    const bool ends = later.cls == GFXSIM_CLASS_BRANCH && !starts_with(texts[slot], "s_cbranch");
    if (ends) recent.clear();
    if (later.cls == GFXSIM_CLASS_MFMA || is_vector_arithmetic(later)) recent.push_back({&later, states});
  }
  return {};
}

}  // namespace gfxsim
