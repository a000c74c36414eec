// Device memory is host memory: allocation, copies, and which of the process's memory kernels may access.
#include <cstring>
#include <string>

#include "gfx942_sim_hip.h"
#include "hip_runtime/error.h"
#include "hip_runtime/heap.h"
#include "hip_runtime/process_map.h"
#include "hip_runtime/registry.h"

namespace gfxsim::hip {
namespace {

// Beside an allocation there is none that a kernel may access; elsewhere all that is mapped.
int find_memory(uintptr_t address, uintptr_t* begin, uintptr_t* end, int* writable) {
  return is_device_memory(address) ? 0 : find_mapping(address, begin, end, writable);
}

// Kernels may access the whole process until they are restricted.
[[maybe_unused]] const bool kStartsOpen = (gfxsim_memory_set_lookup(find_memory), true);

}  // namespace
}  // namespace gfxsim::hip

using namespace gfxsim::hip;

GFXSIM_HIP_API void gfxsim_hip_restrict_memory(int restricted) {
  gfxsim_memory_set_lookup(restricted ? nullptr : find_memory);
}

GFXSIM_HIP_API Error hipMalloc(void** pointer, size_t bytes) {
  *pointer = nullptr;
  if (bytes == 0) return kSuccess;
  void* memory = allocate(bytes);
  if (memory == nullptr) return fail(kErrorOutOfMemory, std::to_string(bytes) + " bytes were asked for");
  if (gfxsim_memory_register(memory, bytes, 1, "hipMalloc") != GFXSIM_OK) {
    release(memory);
    return fail(kErrorInvalidValue, gfxsim_last_error());
  }
  *pointer = memory;
  return kSuccess;
}

GFXSIM_HIP_API Error hipFree(void* pointer) {
  if (pointer == nullptr) return kSuccess;
  if (is_device_memory(reinterpret_cast<uintptr_t>(pointer)) && gfxsim_memory_unregister(pointer) == GFXSIM_OK) {
    release(pointer);
    return kSuccess;
  }
  return fail(kErrorInvalidValue, "this pointer is none that hipMalloc returned");
}

GFXSIM_HIP_API Error hipMallocAsync(void** pointer, size_t bytes, Stream /*stream*/) {
  return hipMalloc(pointer, bytes);
}

GFXSIM_HIP_API Error hipFreeAsync(void* pointer, Stream /*stream*/) { return hipFree(pointer); }

GFXSIM_HIP_API Error hipMemcpy(void* to, const void* from, size_t bytes, int /*kind*/) {
  std::memmove(to, from, bytes);
  return kSuccess;
}

GFXSIM_HIP_API Error hipMemcpyAsync(void* to, const void* from, size_t bytes, int kind, Stream /*stream*/) {
  return hipMemcpy(to, from, bytes, kind);
}

GFXSIM_HIP_API Error hipMemset(void* memory, int value, size_t bytes) {
  std::memset(memory, value, bytes);
  return kSuccess;
}

GFXSIM_HIP_API Error hipMemsetAsync(void* memory, int value, size_t bytes, Stream /*stream*/) {
  return hipMemset(memory, value, bytes);
}

GFXSIM_HIP_API Error hipGetSymbolAddress(void** address, const void* variable) {
  size_t size;
  return find_variable(variable, address, &size);
}

GFXSIM_HIP_API Error hipMemcpyToSymbol(const void* variable, const void* from, size_t bytes, size_t offset,
                                       int /*kind*/) {
  void* address;
  size_t size;
  if (const Error error = find_variable(variable, &address, &size)) return error;
  if (offset > size || bytes > size - offset) return fail(kErrorInvalidValue, "the copy ends beyond the variable");
  std::memcpy(static_cast<char*>(address) + offset, from, bytes);
  return kSuccess;
}

GFXSIM_HIP_API Error hipMemcpyFromSymbol(void* to, const void* variable, size_t bytes, size_t offset, int /*kind*/) {
  void* address;
  size_t size;
  if (const Error error = find_variable(variable, &address, &size)) return error;
  if (offset > size || bytes > size - offset)
    return fail(kErrorInvalidValue, "the copy starts or ends beyond the variable");
  std::memcpy(to, static_cast<const char*>(address) + offset, bytes);
  return kSuccess;
}
