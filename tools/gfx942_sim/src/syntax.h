// The text of one instruction, taken apart: mnemonic, operands, modifiers.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "instruction.h"

namespace gfxsim {

struct Syntax {
  explicit Syntax(const std::string& text);

  bool has(const char* modifier) const { return find(modifier) != nullptr; }
  // Text after the colon; null where the modifier is absent, "" where it has no colon.
  const std::string* find(const char* modifier) const;
  int64_t integer(const char* modifier, int64_t otherwise) const;
  // A list like op_sel:[0,1]: entry `index`, or `otherwise` where the modifier or the entry is absent.
  int list_entry(const char* modifier, int index, int otherwise) const;

  std::string text;
  std::string mnemonic;
  std::string encoding;  // "e32", "e64", "dpp", "sdwa" or "", taken off the mnemonic
  std::vector<std::string> operands;
  std::vector<std::pair<std::string, std::string>> modifiers;
};

// What a decoder throws at something it does not model; becomes a GFXSIM_UNKNOWN_INSTRUCTION.
struct NotModelled {
  std::string what;
};

// An operand as `type` reads it: literals become the bits of the type. Throws NotModelled.
Operand parse_operand(const std::string& text, ValueType type);

// A plain integer, decimal or hexadecimal.
int64_t parse_integer(const std::string& text);

bool starts_with(const std::string& text, const char* prefix);
bool ends_with(const std::string& text, const char* suffix);

}  // namespace gfxsim
