// What the compiler tells about each kernel, out of the object's MessagePack note.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gfxsim {

struct KernelArgument {
  std::string kind;
  uint32_t offset;
  uint32_t size;
};

struct KernelMetadata {
  std::string name;
  std::string descriptor;  // symbol of the kernel descriptor: "<name>.kd"
  uint32_t kernarg_bytes = 0;
  uint32_t lds_bytes = 0;
  uint32_t scratch_bytes = 0;
  uint32_t max_threads = 0;
  uint32_t vgprs = 0, agprs = 0, sgprs = 0, vgpr_spills = 0, sgpr_spills = 0;
  std::vector<KernelArgument> arguments;
};

std::vector<KernelMetadata> read_metadata(const std::vector<uint8_t>& note);

}  // namespace gfxsim
