// LLVM's disassembler, through its C interface: libLLVM is loaded when the first object is, and named by
// GFX942_SIM_LLVM where it has an unusual place. The simulator needs no LLVM headers and starts no process.
#pragma once

#include <cstdint>
#include <string>

namespace gfxsim {

class Disassembler {
 public:
  explicit Disassembler(const std::string& cpu);
  ~Disassembler();
  Disassembler(const Disassembler&) = delete;
  Disassembler& operator=(const Disassembler&) = delete;

  // The text of the instruction at `bytes` and its size; 0 where there is none.
  size_t disassemble(const uint8_t* bytes, uint64_t size, uint64_t address, std::string* text) const;

 private:
  void* context_;
};

}  // namespace gfxsim
