// A loaded code object and its kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "disassembler.h"
#include "elf_file.h"
#include "gfx942_sim.h"
#include "metadata.h"
#include "program.h"

namespace gfxsim {

// The fields of a kernel descriptor that decide what a wave starts with.
struct KernelDescriptor {
  uint32_t resources2;
  uint16_t properties;  // which user SGPRs there are
  uint16_t preload;     // kernel arguments that come in SGPRs: dwords, and the first one
};

struct Object;

struct Kernel {
  const Object* object;
  KernelMetadata metadata;
  KernelDescriptor descriptor;
  uint64_t entry;  // address of the first instruction in the object
  gfxsim_kernel_info info;
  std::vector<gfxsim_argument> arguments;

  // Decoded when it is first needed; throws what Program does.
  const Program& program() const;

 private:
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Program> program_;
};

struct Object {
  Object(const void* bytes, size_t size);

  uint32_t lds_limit() const;  // bytes a block may have
  const Kernel* find(const std::string& name) const;

  Elf elf;
  std::vector<std::unique_ptr<Kernel>> kernels;
  mutable std::mutex disassembler_mutex;  // LLVM's disassembler is not thread-safe
  std::unique_ptr<Disassembler> disassembler;
};

}  // namespace gfxsim
