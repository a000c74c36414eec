// One decoded instruction: a handler that was compiled once, and the operands it works on.
#pragma once

#include <array>
#include <cstdint>

#include "gfx942_sim.h"

namespace gfxsim {

constexpr int kLanes = 64;

// Places in the scalar register file that have names.
constexpr int kFlatScratch = 102;
constexpr int kXnackMask = 104;
constexpr int kVcc = 106;
constexpr int kM0 = 124;
constexpr int kExec = 126;
constexpr int kScalarRegisters = 128;
// Vector registers, then accumulation registers (AGPRs): v0 is row 0, a0 is row 256.
constexpr int kVectorRegisters = 512;
constexpr int kFirstAccumulator = 256;

// Addresses of flat instructions whose high dword is one of these mean LDS and scratch.
constexpr uint64_t kSharedAperture = 0x00020000;
constexpr uint64_t kPrivateAperture = 0x00030000;

enum class ValueType : uint8_t { kNone, kU16, kI16, kF16, kU32, kI32, kF32, kU64, kI64, kF64, kMask };

struct Operand {
  enum Kind : uint8_t { kAbsent, kVector, kScalar, kLiteral, kScc };

  Kind kind = kAbsent;
  uint8_t count = 0;  // registers
  uint16_t index = 0;
  uint64_t literal = 0;
  bool negate = false;
  bool absolute = false;
  bool sign_extend = false;
  // The part of the dword that is meant: SDWA's selections, op_sel of 16-bit operations.
  uint8_t shift = 0;
  uint8_t bits = 32;

  bool is_vector() const { return kind == kVector; }
  bool is_scalar() const { return kind == kScalar; }
  bool is_modified() const { return negate || absolute || sign_extend || bits != 32; }
};

// What a data-parallel-primitive modifier does to source 0.
struct DppControl {
  bool used = false;
  bool bound_control = false;  // lanes without a source read 0, instead of keeping the destination
  uint8_t row_mask = 0xf;
  uint8_t bank_mask = 0xf;
  uint16_t control = 0;  // as encoded
};

// What a matrix instruction multiplies.
enum class Element : uint8_t { kBf16, kF16, kF32, kFp8, kBf8, kI8 };

struct MatrixOp {
  int size;  // rows and columns of the result
  int k;
  int blocks;
  Element a, b;
  int depth() const { return size * k * blocks / kLanes; }  // elements of A a lane holds
  int results() const { return size * size * blocks / kLanes; }
  uint64_t flops() const { return uint64_t{2} * size * size * k * blocks; }
};

struct Wave;
struct Instruction;
using Handler = void (*)(Wave& wave, const Instruction& instruction);

struct LaneOp;

// Gives the old value at `address`, and puts there what the operation makes of it.
using AtomicFunction = uint64_t (*)(void* address, uint64_t data, uint64_t compare);

// How a register and memory correspond.
struct DataFormat {
  uint8_t bytes = 4;  // of one access: 1, 2 or a number of dwords
  bool sign = false;  // of a byte or a short, extended
  bool half = false;  // d16: only 16 bits of the register
  bool high = false;  // the high ones
  int dwords() const { return bytes < 4 ? 1 : bytes / 4; }
};

// The s_waitcnt counter an instruction runs on: what it brings may be used once the counter was waited for.
enum class Counter : uint8_t { kNone, kVector, kLgkm };

struct Instruction {
  Handler run = nullptr;
  gfxsim_class cls = GFXSIM_CLASS_SALU;
  Counter counter = Counter::kNone;
  bool scalar_memory = false;  // returns out of order
  bool brings_data = false;    // the destination is written when the counter says so
  uint8_t source_count = 0;

  Operand destination;
  Operand second;  // scalar destination of carries and comparisons
  std::array<Operand, 6> sources;

  const LaneOp* lane_op = nullptr;
  MatrixOp matrix_op = {};
  DppControl dpp;
  bool clamp = false;
  bool keep_rest = false;  // of the destination's dword, where only a part is written
  float output_scale = 1;

  // Memory: byte offsets, bytes a lane. Branches: the slot to continue at. Others: what their handler says.
  int64_t offset = 0;
  int64_t offset2 = 0;
  uint32_t width = 0;
  uint32_t target = 0;
  uint32_t flags = 0;
  DataFormat format;
  AtomicFunction atomic = nullptr;

  uint64_t address = 0;  // in the object
  uint32_t size = 0;

  void add_source(const Operand& operand) { sources[source_count++] = operand; }
};

}  // namespace gfxsim
