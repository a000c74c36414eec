#include "object.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace gfxsim {
namespace {

constexpr uint32_t kMachGfx942 = 0x4c;
constexpr uint32_t kMachGfx950 = 0x4f;

// Offsets in a kernel descriptor.
constexpr uint64_t kEntryOffset = 16;
constexpr uint64_t kResources2Offset = 52;
constexpr uint64_t kPropertiesOffset = 56;
constexpr uint64_t kPreloadOffset = 58;
constexpr uint64_t kDescriptorBytes = 64;

template <class T>
T read_at(const uint8_t* bytes) {
  T value;
  memcpy(&value, bytes, sizeof(T));
  return value;
}

std::string cpu_name(uint32_t machine) {
  if (machine == kMachGfx942) return "gfx942";
  if (machine == kMachGfx950) return "gfx950";
  throw Error(GFXSIM_INVALID_OBJECT,
              format("the object is for AMDGPU machine 0x%x; this simulator runs gfx942 (0x%x) and gfx950 (0x%x)",
                     machine, kMachGfx942, kMachGfx950));
}

// Bytes up to the first hidden argument.
uint32_t explicit_bytes(const KernelMetadata& metadata) {
  uint32_t end = 0;
  for (const KernelArgument& argument : metadata.arguments) {
    if (argument.kind.rfind("hidden_", 0) != 0) end = std::max(end, argument.offset + argument.size);
  }
  return end;
}

void fill_info(Kernel* kernel) {
  const KernelMetadata& metadata = kernel->metadata;
  for (const KernelArgument& argument : metadata.arguments) {
    kernel->arguments.push_back({argument.kind.c_str(), argument.offset, argument.size});
  }
  gfxsim_kernel_info& info = kernel->info;
  info.name = metadata.name.c_str();
  info.kernarg_bytes = metadata.kernarg_bytes;
  info.explicit_kernarg_bytes = explicit_bytes(metadata);
  info.static_lds_bytes = metadata.lds_bytes;
  info.scratch_bytes = metadata.scratch_bytes;
  info.max_threads = metadata.max_threads;
  info.vgprs = metadata.vgprs;
  info.agprs = metadata.agprs;
  info.sgprs = metadata.sgprs;
  info.vgpr_spills = metadata.vgpr_spills;
  info.sgpr_spills = metadata.sgpr_spills;
  info.argument_count = static_cast<uint32_t>(kernel->arguments.size());
  info.arguments = kernel->arguments.data();
}

void read_descriptor(const Elf& elf, Kernel* kernel) {
  const auto symbol = elf.symbols.find(kernel->metadata.descriptor);
  if (symbol == elf.symbols.end()) {
    throw Error(GFXSIM_INVALID_OBJECT, "kernel without a descriptor: " + kernel->metadata.name);
  }
  const uint64_t address = symbol->second.address;
  const uint8_t* bytes = elf.at(address, kDescriptorBytes);
  kernel->entry = address + static_cast<uint64_t>(read_at<int64_t>(bytes + kEntryOffset));
  kernel->descriptor.resources2 = read_at<uint32_t>(bytes + kResources2Offset);
  kernel->descriptor.properties = read_at<uint16_t>(bytes + kPropertiesOffset);
  kernel->descriptor.preload = read_at<uint16_t>(bytes + kPreloadOffset);
}

}  // namespace

Object::Object(const void* bytes, size_t size) : elf(bytes, size) {
  disassembler = std::make_unique<Disassembler>(cpu_name(elf.machine_flags));
  for (KernelMetadata& metadata : read_metadata(elf.metadata)) {
    auto kernel = std::make_unique<Kernel>();
    kernel->object = this;
    kernel->metadata = std::move(metadata);
    read_descriptor(elf, kernel.get());
    fill_info(kernel.get());
    kernels.push_back(std::move(kernel));
  }
}

uint32_t Object::lds_limit() const { return elf.machine_flags == kMachGfx950 ? 160 * 1024 : 64 * 1024; }

const Kernel* Object::find(const std::string& name) const {
  for (const auto& kernel : kernels) {
    if (kernel->metadata.name == name) return kernel.get();
  }
  return nullptr;
}

const Program& Kernel::program() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (program_ == nullptr) {
    const std::lock_guard<std::mutex> disassembler_lock(object->disassembler_mutex);
    program_ = std::make_unique<Program>(object->elf, *object->disassembler, metadata.name);
  }
  return *program_;
}

}  // namespace gfxsim
