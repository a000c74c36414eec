// Scalar arithmetic: one value a wave, and the condition code SCC. A table of functions, as for vector arithmetic.
#include <algorithm>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "decoder.h"
#include "wave.h"

namespace gfxsim {
namespace {

// A value that also says what SCC becomes.
template <class T>
struct WithScc {
  T value;
  bool scc;
};
struct OnlyScc {
  bool scc;
};
template <class T>
WithScc<T> nonzero(T value) {
  return {value, value != 0};
}

template <class T>
constexpr ValueType type_of() {
  if (std::is_same<T, uint64_t>::value) return ValueType::kU64;
  if (std::is_same<T, int64_t>::value) return ValueType::kI64;
  return ValueType::kU32;
}

template <class T>
T read(const Wave& wave, const Operand& operand) {
  if constexpr (sizeof(T) == 8) {
    return static_cast<T>(read64(wave, operand));
  } else {
    return static_cast<T>(read32(wave, operand));
  }
}

template <class T>
struct Write {
  static constexpr bool kHasResult = true;
  static void run(Wave& wave, const Operand& to, T value) {
    if constexpr (sizeof(T) == 8) {
      wave.set_pair(to.index, static_cast<uint64_t>(value));
    } else {
      wave.s[to.index] = static_cast<uint32_t>(value);
    }
  }
};
template <class T>
struct Write<WithScc<T>> {
  static constexpr bool kHasResult = true;
  static void run(Wave& wave, const Operand& to, WithScc<T> result) {
    Write<T>::run(wave, to, result.value);
    wave.scc = result.scc;
  }
};
template <>
struct Write<OnlyScc> {
  static constexpr bool kHasResult = false;
  static void run(Wave& wave, const Operand&, OnlyScc result) { wave.scc = result.scc; }
};

struct ScalarOp {
  Handler run;
  bool has_result;
  std::vector<ValueType> arguments;
  bool reads_destination = false;  // as its first argument: s_addk
};

template <class F>
const F* g_scalar_function = nullptr;

// A first argument `bool` is SCC as it was.
template <class F, class Call>
struct Apply;
template <class F, class R, class... A>
struct Apply<F, R (F::*)(A...) const> {
  template <size_t... I>
  static void run_with(Wave& wave, const Instruction& instruction, std::index_sequence<I...>) {
    Write<R>::run(wave, instruction.destination, (*g_scalar_function<F>)(read<A>(wave, instruction.sources[I])...));
  }
  static void run(Wave& wave, const Instruction& instruction) {
    run_with(wave, instruction, std::index_sequence_for<A...>());
  }
  static ScalarOp make() { return {run, Write<R>::kHasResult, {type_of<A>()...}}; }
};
template <class F, class R, class... A>
struct Apply<F, R (F::*)(bool, A...) const> {
  template <size_t... I>
  static void run_with(Wave& wave, const Instruction& instruction, std::index_sequence<I...>) {
    Write<R>::run(wave, instruction.destination,
                  (*g_scalar_function<F>)(wave.scc, read<A>(wave, instruction.sources[I])...));
  }
  static void run(Wave& wave, const Instruction& instruction) {
    run_with(wave, instruction, std::index_sequence_for<A...>());
  }
  static ScalarOp make() { return {run, Write<R>::kHasResult, {type_of<A>()...}}; }
};

class Table {
 public:
  template <class F>
  ScalarOp& add(const std::string& name, F function) {
    static const F kFunction = function;
    g_scalar_function<F> = &kFunction;
    return ops_[name] = Apply<F, decltype(&F::operator())>::make();
  }
  const ScalarOp* find(const std::string& name) const {
    const auto found = ops_.find(name);
    return found == ops_.end() ? nullptr : &found->second;
  }

 private:
  std::unordered_map<std::string, ScalarOp> ops_;
};

using U = uint32_t;
using I = int32_t;
using U64 = uint64_t;

template <class T>
void add_bitwise(const std::string& type, Table* table) {
  table->add("s_mov_" + type, [](T a) { return a; });
  table->add("s_not_" + type, [](T a) { return nonzero<T>(~a); });
  table->add("s_and_" + type, [](T a, T b) { return nonzero<T>(a & b); });
  table->add("s_or_" + type, [](T a, T b) { return nonzero<T>(a | b); });
  table->add("s_xor_" + type, [](T a, T b) { return nonzero<T>(a ^ b); });
  table->add("s_andn2_" + type, [](T a, T b) { return nonzero<T>(a & ~b); });
  table->add("s_orn2_" + type, [](T a, T b) { return nonzero<T>(a | ~b); });
  table->add("s_nand_" + type, [](T a, T b) { return nonzero<T>(~(a & b)); });
  table->add("s_nor_" + type, [](T a, T b) { return nonzero<T>(~(a | b)); });
  table->add("s_xnor_" + type, [](T a, T b) { return nonzero<T>(~(a ^ b)); });
  table->add("s_cselect_" + type, [](bool scc, T a, T b) { return scc ? a : b; });
  constexpr U kMask = sizeof(T) * 8 - 1;
  table->add("s_lshl_" + type, [](T a, U b) { return nonzero<T>(a << (b & kMask)); });
  table->add("s_lshr_" + type, [](T a, U b) { return nonzero<T>(a >> (b & kMask)); });
  table->add("s_brev_" + type, [](T a) {
    T reversed = 0;
    for (U i = 0; i <= kMask; ++i) reversed |= (a >> i & 1) << (kMask - i);
    return reversed;
  });
  table->add("s_bcnt0_i32_" + type, [](T a) { return nonzero<U>(__builtin_popcountll(static_cast<T>(~a))); });
  table->add("s_bcnt1_i32_" + type, [](T a) { return nonzero<U>(__builtin_popcountll(a)); });
  table->add("s_ff0_i32_" + type, [](T a) {
    const T flipped = static_cast<T>(~a);
    return flipped == 0 ? ~0u : static_cast<U>(__builtin_ctzll(flipped));
  });
  table->add("s_ff1_i32_" + type, [](T a) { return a == 0 ? ~0u : static_cast<U>(__builtin_ctzll(a)); });
  table->add("s_flbit_i32_" + type,
             [](T a) { return a == 0 ? ~0u : static_cast<U>(__builtin_clzll(a)) - (64 - (kMask + 1)); });
  table->add("s_bfm_" + type, [](U a, U b) { return static_cast<T>(((T{1} << (a & kMask)) - 1) << (b & kMask)); });
  table->add("s_bitcmp0_" + type, [](T a, U b) { return OnlyScc{(a >> (b & kMask) & 1) == 0}; });
  table->add("s_bitcmp1_" + type, [](T a, U b) { return OnlyScc{(a >> (b & kMask) & 1) != 0}; });
  table->add("s_bitset0_" + type, [](T old, U a) { return old & ~(T{1} << (a & kMask)); }).reads_destination = true;
  table->add("s_bitset1_" + type, [](T old, U a) { return old | T{1} << (a & kMask); }).reads_destination = true;
  table->add("s_cmov_" + type, [](bool scc, T old, T a) { return scc ? a : old; }).reads_destination = true;
}

void add_arithmetic(Table* table) {
  table->add("s_add_u32", [](U a, U b) { return WithScc<U>{a + b, a + b < a}; });
  table->add("s_sub_u32", [](U a, U b) { return WithScc<U>{a - b, a < b}; });
  table->add("s_addc_u32", [](bool carry, U a, U b) {
    const U64 sum = U64{a} + b + carry;
    return WithScc<U>{static_cast<U>(sum), sum >> 32 != 0};
  });
  table->add("s_subb_u32", [](bool borrow, U a, U b) { return WithScc<U>{a - b - borrow, a < U64{b} + borrow}; });
  const auto add_signed = [](I a, I b) {
    I sum;
    const bool overflow = __builtin_add_overflow(a, b, &sum);
    return WithScc<I>{sum, overflow};
  };
  table->add("s_add_i32", add_signed);
  table
      ->add("s_addk_i32",
            [](I a, I b) {
              I sum;
              const bool overflow = __builtin_add_overflow(a, b, &sum);
              return WithScc<I>{sum, overflow};
            })
      .reads_destination = true;
  table->add("s_sub_i32", [](I a, I b) {
    I difference;
    const bool overflow = __builtin_sub_overflow(a, b, &difference);
    return WithScc<I>{difference, overflow};
  });
  table->add("s_mul_i32", [](U a, U b) { return a * b; });
  table->add("s_mulk_i32", [](U a, U b) { return a * b; }).reads_destination = true;
  table->add("s_mul_hi_u32", [](U a, U b) { return static_cast<U>(U64{a} * b >> 32); });
  table->add("s_mul_hi_i32", [](I a, I b) { return static_cast<I>(int64_t{a} * b >> 32); });
  table->add("s_min_i32", [](I a, I b) { return WithScc<I>{a < b ? a : b, a < b}; });
  table->add("s_max_i32", [](I a, I b) { return WithScc<I>{a > b ? a : b, a > b}; });
  table->add("s_min_u32", [](U a, U b) { return WithScc<U>{a < b ? a : b, a < b}; });
  table->add("s_max_u32", [](U a, U b) { return WithScc<U>{a > b ? a : b, a > b}; });
  table->add("s_abs_i32", [](I a) { return nonzero<U>(a < 0 ? -static_cast<U>(a) : static_cast<U>(a)); });
  table->add("s_absdiff_i32", [](I a, I b) {
    const int64_t difference = int64_t{a} - b;
    return nonzero<U>(static_cast<U>(difference < 0 ? -difference : difference));
  });
  table->add("s_ashr_i32", [](I a, U b) { return nonzero<I>(a >> (b & 31)); });
  table->add("s_ashr_i64", [](int64_t a, U b) { return nonzero<int64_t>(a >> (b & 63)); });
  table->add("s_lshl1_add_u32", [](U a, U b) { return WithScc<U>{(a << 1) + b, (U64{a} << 1) + b > ~U{0}}; });
  table->add("s_lshl2_add_u32", [](U a, U b) { return WithScc<U>{(a << 2) + b, (U64{a} << 2) + b > ~U{0}}; });
  table->add("s_lshl3_add_u32", [](U a, U b) { return WithScc<U>{(a << 3) + b, (U64{a} << 3) + b > ~U{0}}; });
  table->add("s_lshl4_add_u32", [](U a, U b) { return WithScc<U>{(a << 4) + b, (U64{a} << 4) + b > ~U{0}}; });
  table->add("s_sext_i32_i8", [](U a) { return static_cast<I>(static_cast<int8_t>(a)); });
  table->add("s_sext_i32_i16", [](U a) { return static_cast<I>(static_cast<int16_t>(a)); });
  table->add("s_movk_i32", [](U a) { return a; });
  table->add("s_cmovk_i32", [](bool scc, U old, U a) { return scc ? a : old; }).reads_destination = true;
  table->add("s_flbit_i32", [](I a) {
    const U flipped = static_cast<U>(a < 0 ? ~a : a);
    return flipped == 0 ? ~0u : static_cast<U>(__builtin_clz(flipped));
  });
}

// The second operand of s_bfe holds an offset and, from bit 16 on, a width.
template <class T>
T bit_field(T value, U field, bool is_signed) {
  const U bits = sizeof(T) * 8;
  const U width = std::min(field >> 16 & 0x7f, bits);
  if (width == 0) return 0;
  const T shifted = static_cast<T>(value >> (field & (bits - 1)));
  using S = typename std::make_signed<T>::type;
  const T left = static_cast<T>(shifted << (bits - width));
  return is_signed ? static_cast<T>(static_cast<S>(left) >> (bits - width)) : static_cast<T>(left >> (bits - width));
}

// What is shifted in from above is the sign, for signed fields.
template <class T>
T signed_bit_field(T value, U field) {
  using S = typename std::make_signed<T>::type;
  const U bits = sizeof(T) * 8;
  const T shifted = static_cast<T>(static_cast<S>(value) >> (field & (bits - 1)));
  return bit_field<T>(shifted, field & ~(bits - 1), true);
}

void add_fields(Table* table) {
  table->add("s_bfe_u32", [](U a, U b) { return nonzero<U>(bit_field<U>(a, b, false)); });
  table->add("s_bfe_u64", [](U64 a, U b) { return nonzero<U64>(bit_field<U64>(a, b, false)); });
  table->add("s_bfe_i32", [](U a, U b) { return nonzero<U>(signed_bit_field<U>(a, b)); });
  table->add("s_bfe_i64", [](U64 a, U b) { return nonzero<U64>(signed_bit_field<U64>(a, b)); });
  table->add("s_pack_ll_b32_b16", [](U a, U b) { return (a & 0xffff) | b << 16; });
  table->add("s_pack_lh_b32_b16", [](U a, U b) { return (a & 0xffff) | (b & 0xffff0000); });
  table->add("s_pack_hh_b32_b16", [](U a, U b) { return a >> 16 | (b & 0xffff0000); });
}

template <class T>
void add_relations(const std::string& prefix, const std::string& type, bool destination, Table* table) {
  const auto add = [&](const char* relation, auto function) {
    table->add(prefix + relation + type, function).reads_destination = destination;
  };
  add("_eq_", [](T a, T b) { return OnlyScc{a == b}; });
  add("_lg_", [](T a, T b) { return OnlyScc{a != b}; });
  add("_gt_", [](T a, T b) { return OnlyScc{a > b}; });
  add("_ge_", [](T a, T b) { return OnlyScc{a >= b}; });
  add("_lt_", [](T a, T b) { return OnlyScc{a < b}; });
  add("_le_", [](T a, T b) { return OnlyScc{a <= b}; });
}

// s_<operation>_saveexec_b64: the old EXEC goes to the destination.
template <class Operation>
void save_exec(Wave& wave, const Instruction& instruction, Operation operation) {
  const U64 exec = wave.exec();
  const U64 result = operation(read64(wave, instruction.sources[0]), exec);
  wave.set_pair(instruction.destination.index, exec);
  wave.set_pair(kExec, result);
  wave.scc = result != 0;
}

struct SaveExecOp {
  const char* name;
  Handler run;
};
#define GFXSIM_SAVE_EXEC(expression) \
  [](Wave& w, const Instruction& i) { save_exec(w, i, [](U64 a, U64 exec) { return expression; }); }
const SaveExecOp kSaveExecOps[] = {
    {"s_and_saveexec_b64", GFXSIM_SAVE_EXEC(a & exec)},    {"s_or_saveexec_b64", GFXSIM_SAVE_EXEC(a | exec)},
    {"s_xor_saveexec_b64", GFXSIM_SAVE_EXEC(a ^ exec)},    {"s_andn2_saveexec_b64", GFXSIM_SAVE_EXEC(a & ~exec)},
    {"s_orn2_saveexec_b64", GFXSIM_SAVE_EXEC(a | ~exec)},  {"s_nand_saveexec_b64", GFXSIM_SAVE_EXEC(~(a & exec))},
    {"s_nor_saveexec_b64", GFXSIM_SAVE_EXEC(~(a | exec))}, {"s_xnor_saveexec_b64", GFXSIM_SAVE_EXEC(~(a ^ exec))},
    {"s_andn1_saveexec_b64", GFXSIM_SAVE_EXEC(~a & exec)}, {"s_orn1_saveexec_b64", GFXSIM_SAVE_EXEC(~a | exec)},
};
#undef GFXSIM_SAVE_EXEC

Table make_table() {
  Table table;
  add_bitwise<U>("b32", &table);
  add_bitwise<U64>("b64", &table);
  add_arithmetic(&table);
  add_fields(&table);
  add_relations<I>("s_cmp", "i32", false, &table);
  add_relations<U>("s_cmp", "u32", false, &table);
  add_relations<U64>("s_cmp", "u64", false, &table);
  add_relations<I>("s_cmpk", "i32", true, &table);
  add_relations<U>("s_cmpk", "u32", true, &table);
  return table;
}

Operand scalar_destination(const std::string& text) {
  const Operand operand = parse_operand(text, ValueType::kU32);
  if (!operand.is_scalar()) throw NotModelled{"destination " + text};
  return operand;
}

// The constant of s_movk_i32, s_addk_i32, ... has 16 bits.
void widen_constant(const std::string& name, Operand* constant) {
  const bool is_unsigned = starts_with(name, "s_cmpk_") && ends_with(name, "_u32");
  constant->literal = is_unsigned ? static_cast<uint16_t>(constant->literal)
                                  : static_cast<U64>(int64_t{static_cast<int16_t>(constant->literal)});
}

bool decode_save_exec(const Syntax& syntax, Instruction* instruction) {
  for (const SaveExecOp& op : kSaveExecOps) {
    if (syntax.mnemonic != op.name) continue;
    instruction->run = op.run;
    instruction->destination = scalar_destination(syntax.operands.at(0));
    instruction->add_source(parse_operand(syntax.operands.at(1), ValueType::kU64));
    return true;
  }
  return false;
}

}  // namespace

bool decode_scalar(const Syntax& syntax, Instruction* instruction) {
  static const Table kTable = make_table();
  if (!starts_with(syntax.mnemonic, "s_")) return false;
  instruction->cls = GFXSIM_CLASS_SALU;
  if (decode_save_exec(syntax, instruction)) return true;
  const ScalarOp* op = kTable.find(syntax.mnemonic);
  if (op == nullptr) return false;
  instruction->run = op->run;
  if (op->has_result) instruction->destination = scalar_destination(syntax.operands.at(0));
  // An operation that reads its destination names it once.
  size_t next = op->has_result && !op->reads_destination ? 1 : 0;
  if (syntax.operands.size() != next + op->arguments.size()) throw NotModelled{"the operands"};
  for (const ValueType type : op->arguments) {
    instruction->add_source(parse_operand(syntax.operands[next++], type));
    if (instruction->sources[instruction->source_count - 1].is_vector()) throw NotModelled{"a vector operand"};
  }
  const bool short_constant = starts_with(syntax.mnemonic, "s_cmpk_") || ends_with(syntax.mnemonic, "k_i32");
  if (short_constant) widen_constant(syntax.mnemonic, &instruction->sources[instruction->source_count - 1]);
  return true;
}

}  // namespace gfxsim
