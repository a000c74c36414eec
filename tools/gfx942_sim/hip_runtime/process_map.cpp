// Reads /proc/self/maps: "7f0c1a200000-7f0c1a400000 rw-p 00000000 00:00 0".
#include "hip_runtime/process_map.h"

#include <cinttypes>
#include <cstdio>
#include <memory>

namespace gfxsim::hip {

int find_mapping(uintptr_t address, uintptr_t* begin, uintptr_t* end, int* writable) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> maps(std::fopen("/proc/self/maps", "re"), std::fclose);
  if (maps == nullptr) return 0;
  char line[512];
  while (std::fgets(line, sizeof(line), maps.get()) != nullptr) {
    char readable, writes;
    if (std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %c%c", begin, end, &readable, &writes) != 4) continue;
    if (address < *begin || address >= *end) continue;
    *writable = writes == 'w';
    return readable == 'r';
  }
  return 0;
}

}  // namespace gfxsim::hip
