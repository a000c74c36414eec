#include "memory_access.h"

#include "values.h"

namespace gfxsim {
namespace {

struct NamedFormat {
  const char* name;
  uint8_t bytes;
  bool sign;
};
constexpr NamedFormat kFormats[] = {
    {"ubyte", 1, false}, {"sbyte", 1, true},  {"byte", 1, false},    {"ushort", 2, false},   {"sshort", 2, true},
    {"short", 2, false}, {"dword", 4, false}, {"dwordx2", 8, false}, {"dwordx3", 12, false}, {"dwordx4", 16, false},
    {"b8", 1, false},    {"b16", 2, false},   {"u8", 1, false},      {"i8", 1, true},        {"u16", 2, false},
    {"i16", 2, true},    {"b32", 4, false},   {"b64", 8, false},     {"b96", 12, false},     {"b128", 16, false},
};

template <class T, class F>
uint64_t update(void* address, F next) {
  T* at = static_cast<T*>(address);
  T old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
  T value;
  do {
    value = next(old);
  } while (!__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  return old;
}

uint32_t add_pairs(uint32_t a, uint32_t b, float (*widen)(uint32_t), uint16_t (*narrow)(float)) {
  const uint32_t low = narrow(widen(a & 0xffff) + widen(b & 0xffff));
  const uint32_t high = narrow(widen(a >> 16) + widen(b >> 16));
  return low | high << 16;
}

template <class F, class U>
F as_float(U bits) {
  return bit_cast<F>(bits);
}

#define GFXSIM_ATOMIC(T, expression)                                         \
  [](void* at, uint64_t data_bits, uint64_t compare_bits) {                  \
    const T data = static_cast<T>(data_bits);                                \
    const T compare = static_cast<T>(compare_bits);                          \
    static_cast<void>(compare);                                              \
    return update<T>(at, [=](T old) { return static_cast<T>(expression); }); \
  }
#define GFXSIM_ATOMIC_WIDTHS(U, I, suffix, bytes)                                                \
  {"add" suffix, GFXSIM_ATOMIC(U, old + data), bytes, false},                                    \
      {"sub" suffix, GFXSIM_ATOMIC(U, old - data), bytes, false},                                \
      {"smin" suffix, GFXSIM_ATOMIC(I, old < data ? old : data), bytes, false},                  \
      {"smax" suffix, GFXSIM_ATOMIC(I, old > data ? old : data), bytes, false},                  \
      {"umin" suffix, GFXSIM_ATOMIC(U, old < data ? old : data), bytes, false},                  \
      {"umax" suffix, GFXSIM_ATOMIC(U, old > data ? old : data), bytes, false},                  \
      {"and" suffix, GFXSIM_ATOMIC(U, old & data), bytes, false},                                \
      {"or" suffix, GFXSIM_ATOMIC(U, old | data), bytes, false},                                 \
      {"xor" suffix, GFXSIM_ATOMIC(U, old ^ data), bytes, false},                                \
      {"swap" suffix, GFXSIM_ATOMIC(U, (static_cast<void>(old), data)), bytes, false},           \
      {"inc" suffix, GFXSIM_ATOMIC(U, old >= data ? 0 : old + 1), bytes, false},                 \
      {"dec" suffix, GFXSIM_ATOMIC(U, old == 0 || old > data ? data : old - 1), bytes, false}, { \
    "cmpswap" suffix, GFXSIM_ATOMIC(U, old == compare ? data : old), bytes, true                 \
  }

const AtomicOp kAtomicOps[] = {
    GFXSIM_ATOMIC_WIDTHS(uint32_t, int32_t, "", 4),
    GFXSIM_ATOMIC_WIDTHS(uint64_t, int64_t, "_x2", 8),
    {"add_f32", GFXSIM_ATOMIC(uint32_t, bit_cast<uint32_t>(as_float<float>(old) + as_float<float>(data))), 4, false},
    {"add_f64", GFXSIM_ATOMIC(uint64_t, bit_cast<uint64_t>(as_float<double>(old) + as_float<double>(data))), 8, false},
    {"min_f64", GFXSIM_ATOMIC(uint64_t, bit_cast<uint64_t>(std::fmin(as_float<double>(old), as_float<double>(data)))),
     8, false},
    {"max_f64", GFXSIM_ATOMIC(uint64_t, bit_cast<uint64_t>(std::fmax(as_float<double>(old), as_float<double>(data)))),
     8, false},
    {"min_f32", GFXSIM_ATOMIC(uint32_t, bit_cast<uint32_t>(std::fmin(as_float<float>(old), as_float<float>(data)))), 4,
     false},
    {"max_f32", GFXSIM_ATOMIC(uint32_t, bit_cast<uint32_t>(std::fmax(as_float<float>(old), as_float<float>(data)))), 4,
     false},
    {"pk_add_f16", GFXSIM_ATOMIC(uint32_t, add_pairs(old, data, half_to_float, float_to_half)), 4, false},
    {"pk_add_bf16", GFXSIM_ATOMIC(uint32_t, add_pairs(old, data, bfloat_to_float, float_to_bfloat)), 4, false},
};
#undef GFXSIM_ATOMIC_WIDTHS
#undef GFXSIM_ATOMIC

unsigned long long hex(uint64_t value) { return value; }

}  // namespace

void fail_lds(const Wave& wave, uint64_t address, uint32_t bytes, int lane) {
  throw Error(GFXSIM_MEMORY_FAULT, format("LDS access of %u bytes at 0x%llx by lane %d: the block has %zu bytes", bytes,
                                          hex(address), lane, wave.block->lds.size()));
}

void fail_scratch(const Wave& wave, uint64_t address, uint32_t bytes, int lane) {
  throw Error(GFXSIM_MEMORY_FAULT, format("scratch access of %u bytes at 0x%llx by lane %d: a lane has %u bytes", bytes,
                                          hex(address), lane, wave.block->scratch_bytes));
}

bool parse_format(const std::string& given, DataFormat* format) {
  std::string name = given;
  for (const char* suffix : {"_d16_hi", "_d16"}) {
    if (!ends_with(name, suffix)) continue;
    format->half = true;
    format->high = ends_with(suffix, "_hi");
    name.resize(name.size() - strlen(suffix));
    break;
  }
  for (const NamedFormat& known : kFormats) {
    if (name != known.name) continue;
    format->bytes = known.bytes;
    format->sign = known.sign;
    return true;
  }
  return false;
}

const AtomicOp* find_atomic(const std::string& name) {
  for (const AtomicOp& op : kAtomicOps) {
    if (name == op.name) return &op;
  }
  return nullptr;
}

void apply_atomic(Wave& wave, const Instruction& instruction, uint8_t* at, uint64_t data, uint64_t compare, int lane) {
  if (reinterpret_cast<uint64_t>(at) % instruction.width != 0) {
    throw Error(GFXSIM_MEMORY_FAULT, format("atomic operation of %u bytes at 0x%llx by lane %d: the address is not a "
                                            "multiple of its size",
                                            instruction.width, hex(reinterpret_cast<uint64_t>(at)), lane));
  }
  const uint64_t old = instruction.atomic(at, data, compare);
  if (!instruction.brings_data) return;
  const int first = instruction.destination.index;
  wave.v[first][lane] = static_cast<uint32_t>(old);
  if (instruction.width == 8) wave.v[first + 1][lane] = static_cast<uint32_t>(old >> 32);
}

Operand vector_registers(const std::string& text, int count) {
  const Operand operand = parse_operand(text, ValueType::kU32);
  if (!operand.is_vector() || operand.is_modified() || (count != 0 && operand.count != count)) {
    throw NotModelled{"operand " + text};
  }
  return operand;
}

}  // namespace gfxsim
