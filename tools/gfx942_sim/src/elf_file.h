// The parts of an AMDGPU ELF file that a launch needs: loaded segments, symbols, notes. Every offset is checked.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace gfxsim {

struct ElfSymbol {
  uint64_t address;  // in the object
  uint64_t size;
  bool function;
};

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

struct Elf {
  Elf(const void* bytes, size_t size);

  // Bytes of the object's own addresses; throws where nothing is loaded.
  const uint8_t* at(uint64_t address, uint64_t bytes) const;

  uint32_t machine_flags = 0;                  // EF_AMDGPU_MACH of e_flags
  std::unique_ptr<uint8_t, FreeMemory> image;  // what the loader would map: addresses 0 .. image_size
  uint64_t image_size = 0;
  std::map<std::string, ElfSymbol> symbols;  // defined ones
  std::vector<uint8_t> metadata;             // the AMDGPU note: MessagePack
};

}  // namespace gfxsim
