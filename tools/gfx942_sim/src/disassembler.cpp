#include "disassembler.h"

#include <dlfcn.h>

#include <cstdlib>

#include "error.h"

namespace gfxsim {
namespace {

constexpr int kNewestLlvm = 26;
constexpr int kOldestLlvm = 20;  // the first that knows gfx950

// The functions of llvm-c/Disassembler.h and llvm-c/Target.h that are called.
struct Llvm {
  void (*initialize_target_info)();
  void (*initialize_target_mc)();
  void (*initialize_disassembler)();
  void* (*create)(const char* triple, const char* cpu, void* info, int tag, void* get_operand, void* look_up_symbol);
  void (*dispose)(void* context);
  size_t (*disassemble)(void* context, const uint8_t* bytes, uint64_t size, uint64_t address, char* text,
                        size_t text_size);
};

void* open_llvm() {
  if (const char* path = getenv("GFX942_SIM_LLVM")) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      throw Error(GFXSIM_TOOL_MISSING, format("GFX942_SIM_LLVM=%s cannot be loaded: %s", path, dlerror()));
    }
    return library;
  }
  for (int version = kNewestLlvm; version >= kOldestLlvm; --version) {
    const std::string number = std::to_string(version);
    for (const std::string& name : {"libLLVM.so." + number + ".1", "libLLVM-" + number + ".so"}) {
      if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    }
  }
  throw Error(GFXSIM_TOOL_MISSING,
              format("no libLLVM from %d to %d was found: install one (Debian: libllvm22), or name its file in "
                     "GFX942_SIM_LLVM",
                     kOldestLlvm, kNewestLlvm));
}

template <class F>
void find(void* library, const char* name, F** function) {
  *function = reinterpret_cast<F*>(dlsym(library, name));
  if (*function == nullptr) {
    throw Error(GFXSIM_TOOL_MISSING, format("this libLLVM has no %s: it needs the AMDGPU target", name));
  }
}

Llvm load_llvm() {
  void* library = open_llvm();
  Llvm llvm;
  find(library, "LLVMInitializeAMDGPUTargetInfo", &llvm.initialize_target_info);
  find(library, "LLVMInitializeAMDGPUTargetMC", &llvm.initialize_target_mc);
  find(library, "LLVMInitializeAMDGPUDisassembler", &llvm.initialize_disassembler);
  find(library, "LLVMCreateDisasmCPU", &llvm.create);
  find(library, "LLVMDisasmDispose", &llvm.dispose);
  find(library, "LLVMDisasmInstruction", &llvm.disassemble);
  llvm.initialize_target_info();
  llvm.initialize_target_mc();
  llvm.initialize_disassembler();
  return llvm;
}

const Llvm& llvm() {
  static const Llvm kLlvm = load_llvm();
  return kLlvm;
}

}  // namespace

Disassembler::Disassembler(const std::string& cpu)
    : context_(llvm().create("amdgcn-amd-amdhsa", cpu.c_str(), nullptr, 0, nullptr, nullptr)) {
  if (context_ == nullptr) throw Error(GFXSIM_TOOL_MISSING, format("this libLLVM does not know %s", cpu.c_str()));
}

Disassembler::~Disassembler() { llvm().dispose(context_); }

size_t Disassembler::disassemble(const uint8_t* bytes, uint64_t size, uint64_t address, std::string* text) const {
  char buffer[512];
  const size_t read = llvm().disassemble(context_, bytes, size, address, buffer, sizeof(buffer));
  if (read == 0) return 0;
  *text = buffer;
  const size_t start = text->find_first_not_of(" \t");
  *text = start == std::string::npos ? "" : text->substr(start);
  return read;
}

}  // namespace gfxsim
