// The C interface: checks what it is given, and turns exceptions into statuses.
#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "error.h"
#include "gfx942_sim.h"
#include "launch.h"
#include "memory_map.h"
#include "object.h"

// The handles are the objects themselves.
struct gfxsim_object final : gfxsim::Object {
  using gfxsim::Object::Object;
};

namespace gfxsim {
namespace {

constexpr uint32_t kMostThreads = 1024;
constexpr uint32_t kMostScratchBytes = 1 << 20;
constexpr size_t kKernargAlignment = 64;
constexpr uint64_t kMostInstructions = uint64_t{1} << 32;

std::string& last_error() {
  static thread_local std::string message;
  return message;
}

template <class F>
gfxsim_status guarded(const F& body) {
  try {
    body();
    return GFXSIM_OK;
  } catch (const Error& error) {
    last_error() = error.what();
    return error.status();
  } catch (const std::exception& error) {
    last_error() = std::string("out of memory, or a fault of the simulator: ") + error.what();
    return GFXSIM_INVALID_ARGUMENT;
  }
}

void require(bool condition, const std::string& what) {
  if (!condition) throw Error(GFXSIM_INVALID_ARGUMENT, what);
}

void check_sizes(const Kernel& kernel, const uint32_t* grid, const uint32_t* block, uint64_t lds_bytes) {
  const uint64_t blocks = uint64_t{grid[0]} * grid[1];
  require(
      grid[0] != 0 && grid[1] != 0 && grid[2] != 0 && blocks <= UINT32_MAX && blocks * grid[2] <= UINT32_MAX,
      format("grid (%u, %u, %u): every size must be positive and the product below 2^32", grid[0], grid[1], grid[2]));
  const uint32_t most = kernel.metadata.max_threads == 0 ? kMostThreads : kernel.metadata.max_threads;
  uint64_t threads = 1;
  for (int i = 0; i < 3; ++i) {
    require(block[i] != 0 && block[i] <= kMostThreads,
            format("block (%u, %u, %u): every size must be 1..%u", block[0], block[1], block[2], kMostThreads));
    threads *= block[i];
  }
  require(threads <= most,
          format("block (%u, %u, %u) has %llu threads; kernel %s was compiled for at most %u", block[0], block[1],
                 block[2], static_cast<unsigned long long>(threads), kernel.metadata.name.c_str(), most));
  require(kernel.metadata.scratch_bytes <= kMostScratchBytes,
          format("kernel %s wants %u bytes of scratch a thread; at most %u are allowed", kernel.metadata.name.c_str(),
                 kernel.metadata.scratch_bytes, kMostScratchBytes));
  const uint32_t lds_limit = kernel.object->lds_limit();
  require(lds_bytes <= lds_limit,
          format("kernel %s wants %llu bytes of LDS; a block has %u", kernel.metadata.name.c_str(),
                 static_cast<unsigned long long>(lds_bytes), lds_limit));
}

uint64_t hidden_value(const std::string& kind, const uint32_t* grid, const uint32_t* block, uint32_t dynamic_lds) {
  static const char* const kAxes[] = {"_x", "_y", "_z"};
  for (int i = 0; i < 3; ++i) {
    if (kind == std::string("hidden_block_count") + kAxes[i]) return grid[i];
    if (kind == std::string("hidden_group_size") + kAxes[i]) return block[i];
  }
  if (kind == "hidden_grid_dims") return grid[2] * block[2] > 1 ? 3 : grid[1] * block[1] > 1 ? 2 : 1;
  if (kind == "hidden_dynamic_lds_size") return dynamic_lds;
  if (kind == "hidden_shared_base") return kSharedAperture;
  if (kind == "hidden_private_base") return kPrivateAperture;
  return 0;  // remainders (grids are whole blocks), offsets, and services of a runtime that are not there
}

std::vector<uint8_t> make_kernarg(const Kernel& kernel, const void* given, size_t bytes, const uint32_t* grid,
                                  const uint32_t* block, uint32_t dynamic_lds) {
  require(bytes >= kernel.info.explicit_kernarg_bytes,
          format("kernel %s takes %u bytes of arguments, %zu were given", kernel.metadata.name.c_str(),
                 kernel.info.explicit_kernarg_bytes, bytes));
  // Compilers load arguments in wider pieces than there are: the block is as long as its alignment asks for.
  std::vector<uint8_t> kernarg((kernel.info.kernarg_bytes / kKernargAlignment + 1) * kKernargAlignment);
  memcpy(kernarg.data(), given, std::min<size_t>(kernel.info.explicit_kernarg_bytes, bytes));
  for (const KernelArgument& argument : kernel.metadata.arguments) {
    if (argument.kind.rfind("hidden_", 0) != 0) continue;
    const uint64_t value = hidden_value(argument.kind, grid, block, dynamic_lds);
    const size_t size = std::min<size_t>(argument.size, sizeof(value));
    if (argument.offset + size <= kernarg.size()) memcpy(&kernarg[argument.offset], &value, size);
  }
  return kernarg;
}

void check_hazard(const Program& program) {
  const Hazard& hazard = program.hazard;
  if (hazard.what.empty()) return;
  const unsigned long long pc = program.instructions[hazard.slot].address;
  throw Error(GFXSIM_HAZARD, format("kernel %s, pc 0x%llx: %s: %s; nothing was executed", program.kernel, pc,
                                    program.texts[hazard.slot].c_str(), hazard.what.c_str()));
}

constexpr const char* kClassNames[] = {
    "salu",      "smem",       "branch",      "barrier",  "wait",      "valu",        "valu_64",
    "trans",     "mfma",       "acc_move",    "lds_read", "lds_write", "lds_permute", "lds_atomic",
    "vmem_load", "vmem_store", "vmem_atomic", "vmem_lds", "scratch",
};
static_assert(sizeof(kClassNames) / sizeof(kClassNames[0]) == GFXSIM_CLASS_COUNT, "a name for every class");

}  // namespace
}  // namespace gfxsim

using gfxsim::Error;
using gfxsim::format;
using gfxsim::guarded;
using gfxsim::require;

extern "C" {

gfxsim_status gfxsim_object_load(const void* bytes, size_t size, gfxsim_object** object) {
  return guarded([&] {
    require(bytes != nullptr && object != nullptr, "gfxsim_object_load: null pointer");
    *object = nullptr;
    *object = new gfxsim_object(bytes, size);
  });
}

void gfxsim_object_free(gfxsim_object* object) { delete object; }

size_t gfxsim_object_kernel_count(const gfxsim_object* object) {
  return object == nullptr ? 0 : object->kernels.size();
}

static const gfxsim_kernel* handle(const gfxsim::Kernel* kernel) {
  return reinterpret_cast<const gfxsim_kernel*>(kernel);
}
static const gfxsim::Kernel* kernel_of(const gfxsim_kernel* handle) {
  return reinterpret_cast<const gfxsim::Kernel*>(handle);
}

const gfxsim_kernel* gfxsim_object_kernel_at(const gfxsim_object* object, size_t index) {
  if (object == nullptr || index >= object->kernels.size()) return nullptr;
  return handle(object->kernels[index].get());
}

gfxsim_status gfxsim_object_kernel(const gfxsim_object* object, const char* name, const gfxsim_kernel** kernel) {
  return guarded([&] {
    require(object != nullptr && name != nullptr && kernel != nullptr, "gfxsim_object_kernel: null pointer");
    *kernel = handle(object->find(name));
    if (*kernel == nullptr) {
      throw Error(GFXSIM_NOT_FOUND, format("the object has no kernel %s among its %zu", name, object->kernels.size()));
    }
  });
}

gfxsim_status gfxsim_object_symbol(const gfxsim_object* object, const char* name, void** address, size_t* size) {
  return guarded([&] {
    require(object != nullptr && name != nullptr && address != nullptr, "gfxsim_object_symbol: null pointer");
    const auto found = object->elf.symbols.find(name);
    if (found == object->elf.symbols.end() || found->second.function) {
      throw Error(GFXSIM_NOT_FOUND, format("the object has no variable %s", name));
    }
    object->elf.at(found->second.address, found->second.size);
    *address = object->elf.image.get() + found->second.address;
    if (size != nullptr) *size = found->second.size;
  });
}

const gfxsim_kernel_info* gfxsim_kernel_get_info(const gfxsim_kernel* kernel) {
  return kernel == nullptr ? nullptr : &kernel_of(kernel)->info;
}

gfxsim_status gfxsim_memory_register(const void* address, size_t bytes, int writable, const char* name) {
  return guarded([&] {
    require(address != nullptr || bytes == 0, "gfxsim_memory_register: null pointer");
    const auto begin = reinterpret_cast<uint64_t>(address);
    require(begin + bytes >= begin, "gfxsim_memory_register: the range passes the end of the address space");
    gfxsim::register_memory({begin, begin + bytes, writable != 0, name == nullptr ? "unnamed memory" : name});
  });
}

gfxsim_status gfxsim_memory_unregister(const void* address) {
  return guarded([&] { gfxsim::unregister_memory(reinterpret_cast<uint64_t>(address)); });
}

void gfxsim_memory_set_lookup(gfxsim_memory_lookup lookup) { gfxsim::set_memory_lookup(lookup); }

const char* gfxsim_class_name(gfxsim_class cls) {
  return cls < 0 || cls >= GFXSIM_CLASS_COUNT ? "unknown" : gfxsim::kClassNames[cls];
}

gfxsim_options gfxsim_default_options(void) {
  gfxsim_options options = {};
  options.max_instructions = gfxsim::kMostInstructions;
  options.check_races = options.check_waits = 1;
  return options;
}

gfxsim_status gfxsim_launch(const gfxsim_kernel* handle, const uint32_t grid[3], const uint32_t block[3],
                            uint32_t dynamic_lds_bytes, const void* kernarg, size_t kernarg_bytes,
                            const gfxsim_options* options, gfxsim_report* report) {
  return guarded([&] {
    const gfxsim::Kernel* kernel = kernel_of(handle);
    require(kernel != nullptr && grid != nullptr && block != nullptr && (kernarg != nullptr || kernarg_bytes == 0),
            "gfxsim_launch: null pointer");
    const uint64_t lds_bytes = uint64_t{kernel->metadata.lds_bytes} + dynamic_lds_bytes;
    gfxsim::check_sizes(*kernel, grid, block, lds_bytes);
    gfxsim::Launch launch;
    launch.kernel = kernel;
    launch.program = &kernel->program();
    std::copy(grid, grid + 3, launch.grid);
    std::copy(block, block + 3, launch.block);
    launch.lds_bytes = static_cast<uint32_t>(lds_bytes);
    launch.kernarg = gfxsim::make_kernarg(*kernel, kernarg, kernarg_bytes, grid, block, dynamic_lds_bytes);
    launch.options = options == nullptr ? gfxsim_default_options() : *options;
    if (launch.options.check_waits) gfxsim::check_hazard(*launch.program);
    if (launch.options.max_instructions == 0) launch.options.max_instructions = gfxsim::kMostInstructions;
    launch.memory = gfxsim::snapshot_memory();
    const gfxsim_report result = gfxsim::run_launch(launch);
    if (report != nullptr) *report = result;
  });
}

const char* gfxsim_last_error(void) { return gfxsim::last_error().c_str(); }

}  // extern "C"
