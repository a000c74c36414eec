#include "syntax.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "values.h"

namespace gfxsim {
namespace {

// Splits at `separator` outside of brackets and parentheses.
std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += (c == '[' || c == '(') - (c == ']' || c == ')');
    if (c == separator && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::string trim(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

struct NamedRegister {
  const char* name;
  int index;
  int count;
};

constexpr NamedRegister kNamedRegisters[] = {
    {"vcc", kVcc, 2},
    {"vcc_lo", kVcc, 1},
    {"vcc_hi", kVcc + 1, 1},
    {"m0", kM0, 1},
    {"exec", kExec, 2},
    {"exec_lo", kExec, 1},
    {"exec_hi", kExec + 1, 1},
    {"flat_scratch", kFlatScratch, 2},
    {"flat_scratch_lo", kFlatScratch, 1},
    {"flat_scratch_hi", kFlatScratch + 1, 1},
    {"xnack_mask", kXnackMask, 2},
};

bool is_wide(ValueType type) { return type == ValueType::kU64 || type == ValueType::kI64 || type == ValueType::kF64; }
bool is_narrow(ValueType type) { return type == ValueType::kU16 || type == ValueType::kI16 || type == ValueType::kF16; }

// v7, a[0:3], s[4:5] and the named scalars.
bool parse_register(const std::string& text, Operand* operand) {
  for (const NamedRegister& named : kNamedRegisters) {
    if (text != named.name) continue;
    operand->kind = Operand::kScalar;
    operand->index = named.index;
    operand->count = named.count;
    return true;
  }
  const char file = text.empty() ? '\0' : text[0];
  if (file != 'v' && file != 's' && file != 'a') return false;
  int first = 0, last = 0, used = 0;
  const char* rest = text.c_str() + 1;
  if (sscanf(rest, "[%d:%d]%n", &first, &last, &used) != 2 || rest[used] != '\0') {
    used = 0;
    if (sscanf(rest, "%d%n", &first, &used) != 1 || rest[used] != '\0') return false;
    last = first;
  }
  const int limit = file == 's' ? kScalarRegisters : kFirstAccumulator;
  if (first < 0 || last < first || last >= limit) return false;
  operand->kind = file == 's' ? Operand::kScalar : Operand::kVector;
  operand->index = first + (file == 'a' ? kFirstAccumulator : 0);
  operand->count = last - first + 1;
  return true;
}

uint64_t float_bits(double value, ValueType type) {
  if (is_wide(type)) return bit_cast<uint64_t>(value);
  if (is_narrow(type)) return bit_cast<uint16_t>(static_cast<Half>(value));
  return bit_cast<uint32_t>(static_cast<float>(value));
}

// Decimal integers are inline constants, which every type sign-extends. Hexadecimal ones are 32-bit literals: the high
// half of a double, sign-extended for i64, zero-extended for u64.
uint64_t integer_bits(const std::string& text, ValueType type) {
  const int64_t value = parse_integer(text);
  if (!starts_with(text, "0x")) return static_cast<uint64_t>(value);
  const uint32_t literal = static_cast<uint32_t>(value);
  if (type == ValueType::kF64) return uint64_t{literal} << 32;
  if (type == ValueType::kI64) return static_cast<uint64_t>(int64_t{static_cast<int32_t>(literal)});
  return literal;
}

bool parse_literal(std::string text, ValueType type, Operand* operand) {
  if (starts_with(text, "lit(") && text.back() == ')') text = text.substr(4, text.size() - 5);
  if (text.empty()) return false;
  operand->kind = Operand::kLiteral;
  char* end;
  strtoll(text.c_str(), &end, 0);
  if (*end == '\0') {
    operand->literal = integer_bits(text, type);
    return true;
  }
  const double value = strtod(text.c_str(), &end);
  if (*end != '\0') return false;
  // LLVM writes 1 / (2 pi) with the digits of each width.
  operand->literal = float_bits(value, type);
  return true;
}

bool strip_call(const char* name, std::string* text) {
  const std::string prefix = std::string(name) + "(";
  if (!starts_with(*text, prefix.c_str()) || text->back() != ')') return false;
  *text = text->substr(prefix.size(), text->size() - prefix.size() - 1);
  return true;
}

}  // namespace

Syntax::Syntax(const std::string& line) : text(line) {
  const size_t space = line.find(' ');
  mnemonic = line.substr(0, space);
  for (const char* suffix : {"_e32", "_e64_dpp", "_e64", "_dpp", "_sdwa"}) {
    if (!ends_with(mnemonic, suffix) || mnemonic[0] != 'v') continue;
    encoding = suffix + 1;
    mnemonic.resize(mnemonic.size() - strlen(suffix));
    break;
  }
  if (space == std::string::npos) return;
  operands = split(line.substr(space + 1), ',');
  for (std::string& operand : operands) operand = trim(operand);
  // What follows the last operand after a space is modifiers.
  const std::vector<std::string> words = split(operands.back(), ' ');
  operands.back() = words[0];
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i].empty()) continue;
    const size_t colon = words[i].find(':');
    const std::string value = colon == std::string::npos ? "" : words[i].substr(colon + 1);
    modifiers.emplace_back(words[i].substr(0, colon), value);
  }
}

const std::string* Syntax::find(const char* modifier) const {
  for (const auto& entry : modifiers) {
    if (entry.first == modifier) return &entry.second;
  }
  return nullptr;
}

int64_t Syntax::integer(const char* modifier, int64_t otherwise) const {
  const std::string* value = find(modifier);
  return value == nullptr ? otherwise : parse_integer(*value);
}

int Syntax::list_entry(const char* modifier, int index, int otherwise) const {
  const std::string* value = find(modifier);
  if (value == nullptr || value->size() < 2) return otherwise;
  const std::vector<std::string> entries = split(value->substr(1, value->size() - 2), ',');
  return index < static_cast<int>(entries.size()) ? static_cast<int>(parse_integer(entries[index])) : otherwise;
}

Operand parse_operand(const std::string& given, ValueType type) {
  Operand operand;
  std::string text = given;
  if (text.size() > 1 && text[0] == '-' && !isdigit(text[1])) {
    operand.negate = true;
    text = text.substr(1);
  } else if (strip_call("neg", &text)) {
    operand.negate = true;
  }
  if (text.size() > 2 && text[0] == '|' && text.back() == '|') {
    operand.absolute = true;
    text = text.substr(1, text.size() - 2);
  } else if (strip_call("abs", &text)) {
    operand.absolute = true;
  }
  operand.sign_extend = strip_call("sext", &text);
  if (parse_register(text, &operand)) return operand;
  if (text == "off") return operand;
  if (text == "src_scc") {
    operand.kind = Operand::kScc;
    return operand;
  }
  const bool shared = text == "src_shared_base";
  if ((shared || text == "src_private_base") && (is_wide(type))) {
    operand.kind = Operand::kLiteral;
    operand.literal = (shared ? kSharedAperture : kPrivateAperture) << 32;
    return operand;
  }
  if (!parse_literal(text, type, &operand)) throw NotModelled{"operand " + given};
  return operand;
}

int64_t parse_integer(const std::string& text) {
  char* end;
  errno = 0;
  const long long value = strtoll(text.c_str(), &end, 0);
  if (text.empty() || *end != '\0' || errno != 0) throw NotModelled{"number " + text};
  return value;
}

bool starts_with(const std::string& text, const char* prefix) { return text.rfind(prefix, 0) == 0; }

bool ends_with(const std::string& text, const char* suffix) {
  const size_t length = strlen(suffix);
  return text.size() >= length && text.compare(text.size() - length, length, suffix) == 0;
}

}  // namespace gfxsim
