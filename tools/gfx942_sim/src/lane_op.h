// Vector arithmetic as a table of pure functions: [](float a, float b) { return a + b; } says which types an
// instruction reads and writes, and its loop over the 64 lanes is made from it here, once, where the compiler
// vectorises it. Modifiers, EXEC and destinations are dealt with around it (vector.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "instruction.h"
#include "values.h"

namespace gfxsim {

// Operands of one call: a dword a lane; 64-bit values have their high dwords in the 64 dwords that follow.
struct LaneBuffers {
  const uint32_t* sources[4];
  uint32_t* result;
  uint32_t* flags;
};
using LaneFunction = void (*)(const LaneBuffers& buffers);

// A bit a lane, out of a scalar register pair: the selector of v_cndmask, a carry, a comparison's result.
struct Flag {
  bool set;
};

// A value and a flag: what v_add_co_u32 gives.
template <class T>
struct Flagged {
  T value;
  bool flag;
};

struct LaneOp {
  std::string name;  // without _e32, _e64, ...
  LaneFunction run;
  ValueType result;
  bool gives_flags;
  int argument_count;
  ValueType arguments[4];
  gfxsim_class cls = GFXSIM_CLASS_VALU;
  bool reads_destination = false;  // as its last argument: v_fmac
  bool reads_vcc = false;          // as its last argument, without naming it: v_div_fmas
  bool reads_table = false;        // as its last argument, from the modifier bitop3
  bool keeps_high_half = false;    // of a 16-bit result's register; the others clear it
};

namespace lane {

template <class T>
constexpr ValueType value_type() {
  if (std::is_same<T, uint16_t>::value) return ValueType::kU16;
  if (std::is_same<T, int16_t>::value) return ValueType::kI16;
  if (std::is_same<T, Half>::value) return ValueType::kF16;
  if (std::is_same<T, uint32_t>::value) return ValueType::kU32;
  if (std::is_same<T, int32_t>::value) return ValueType::kI32;
  if (std::is_same<T, float>::value) return ValueType::kF32;
  if (std::is_same<T, uint64_t>::value) return ValueType::kU64;
  if (std::is_same<T, int64_t>::value) return ValueType::kI64;
  if (std::is_same<T, double>::value) return ValueType::kF64;
  return ValueType::kMask;
}

template <class T>
inline T load(const uint32_t* source, int lane) {
  if constexpr (std::is_same<T, Flag>::value) {
    return Flag{source[lane] != 0};
  } else if constexpr (sizeof(T) == 2) {
    return bit_cast<T>(static_cast<uint16_t>(source[lane]));
  } else if constexpr (sizeof(T) == 4) {
    return bit_cast<T>(source[lane]);
  } else {
    return bit_cast<T>(source[lane] | uint64_t{source[kLanes + lane]} << 32);
  }
}

template <class T>
struct Result {
  static constexpr ValueType kType = value_type<T>();
  static constexpr bool kFlags = false;
  static void store(const LaneBuffers& to, int lane, T value) {
    if constexpr (sizeof(T) == 2) {
      to.result[lane] = bit_cast<uint16_t>(value);
    } else if constexpr (sizeof(T) == 4) {
      to.result[lane] = bit_cast<uint32_t>(value);
    } else {
      const uint64_t bits = bit_cast<uint64_t>(value);
      to.result[lane] = static_cast<uint32_t>(bits);
      to.result[kLanes + lane] = static_cast<uint32_t>(bits >> 32);
    }
  }
};

template <>
struct Result<Flag> {
  static constexpr ValueType kType = ValueType::kNone;
  static constexpr bool kFlags = true;
  static void store(const LaneBuffers& to, int lane, Flag value) { to.flags[lane] = value.set; }
};

template <class T>
struct Result<Flagged<T>> {
  static constexpr ValueType kType = value_type<T>();
  static constexpr bool kFlags = true;
  static void store(const LaneBuffers& to, int lane, Flagged<T> value) {
    Result<T>::store(to, lane, value.value);
    to.flags[lane] = value.flag;
  }
};

// The one object of a lambda's type: a lambda has no default constructor before C++20. It has no state, so a call
// through this pointer costs nothing.
template <class F>
inline const F* g_function = nullptr;

template <class F, class Call>
struct Loop;

template <class F, class R, class... A>
struct Loop<F, R (F::*)(A...) const> {
  template <size_t... I>
  static void run_lanes(const LaneBuffers& buffers, std::index_sequence<I...>) {
    const LaneBuffers local = buffers;
    for (int lane = 0; lane < kLanes; ++lane) {
      Result<R>::store(local, lane, (*g_function<F>)(load<A>(local.sources[I], lane)...));
    }
  }
  static void run(const LaneBuffers& buffers) { run_lanes(buffers, std::index_sequence_for<A...>()); }

  static LaneOp make(const std::string& name) {
    return {name, run, Result<R>::kType, Result<R>::kFlags, sizeof...(A), {value_type<A>()...}};
  }
};

}  // namespace lane

// A table entry: lane_op("v_add_f32", [](float a, float b) { return a + b; }).
template <class F>
LaneOp lane_op(const std::string& name, F function) {
  static const F kFunction = function;
  lane::g_function<F> = &kFunction;
  return lane::Loop<F, decltype(&F::operator())>::make(name);
}

inline LaneOp of_class(gfxsim_class cls, LaneOp op) {
  op.cls = cls;
  return op;
}
inline LaneOp accumulating(LaneOp op) {
  op.reads_destination = true;
  return op;
}
inline LaneOp keeping_high_half(LaneOp op) {
  op.keeps_high_half = true;
  return op;
}
inline LaneOp reading_table(LaneOp op) {
  op.reads_table = true;
  return op;
}
inline LaneOp reading_vcc(LaneOp op) {
  op.reads_vcc = true;
  return op;
}

// The entry of this name; null where there is none.
const LaneOp* find_lane_op(const std::string& name);

// The tables, by kind of arithmetic.
std::vector<LaneOp> float_ops();
std::vector<LaneOp> half_ops();
std::vector<LaneOp> double_ops();
std::vector<LaneOp> integer_ops();
std::vector<LaneOp> narrow_integer_ops();
std::vector<LaneOp> conversion_ops();
std::vector<LaneOp> compare_ops();

}  // namespace gfxsim
