#include "hip_runtime/heap.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

namespace gfxsim::hip {
namespace {

struct Heap {
  std::mutex mutex;
  std::map<uintptr_t, size_t> mappings;  // with the pages around each
};

Heap& heap() {
  static Heap& instance = *new Heap;  // never destroyed: libraries release memory when the process ends
  return instance;
}

size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

void* allocate(size_t bytes) {
  const size_t page = page_bytes();
  if (bytes > SIZE_MAX / 2) return nullptr;
  const size_t inner = (bytes + page - 1) / page * page, outer = inner + 2 * page;
  void* mapping = mmap(nullptr, outer, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  char* memory = static_cast<char*>(mapping) + page;
  if (mprotect(memory, inner, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapping, outer);
    return nullptr;
  }
  std::memset(memory, 0xFF, inner);
  const std::lock_guard<std::mutex> lock(heap().mutex);
  heap().mappings[reinterpret_cast<uintptr_t>(mapping)] = outer;
  return memory;
}

void release(void* memory) {
  const std::lock_guard<std::mutex> lock(heap().mutex);
  const auto mapping = heap().mappings.find(reinterpret_cast<uintptr_t>(memory) - page_bytes());
  munmap(reinterpret_cast<void*>(mapping->first), mapping->second);
  heap().mappings.erase(mapping);
}

bool is_device_memory(uintptr_t address) {
  const std::lock_guard<std::mutex> lock(heap().mutex);
  const auto after = heap().mappings.upper_bound(address);
  if (after == heap().mappings.begin()) return false;
  const auto& [begin, bytes] = *std::prev(after);
  return address - begin < bytes;
}

}  // namespace gfxsim::hip
