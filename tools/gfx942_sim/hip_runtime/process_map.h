// The memory map of this process, for kernels whose caller did not say which memory they may access.
#pragma once

#include <cstdint>

namespace gfxsim::hip {

// A gfxsim_memory_lookup: the mapping around `address` in /proc/self/maps, if it is readable.
int find_mapping(uintptr_t address, uintptr_t* begin, uintptr_t* end, int* writable);

}  // namespace gfxsim::hip
