// Device memory. Each allocation is a mapping of its own between two pages that nobody may touch, so that an access
// beside one is found even while kernels may access all other memory of the process.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gfxsim::hip {

// Null when there is no memory left. Fresh memory is full of 0xFF: a NaN in every float format.
void* allocate(size_t bytes);

// `memory` is what allocate() returned.
void release(void* memory);

// Whether `address` is in an allocation, the rest of its last page, or the pages around it.
bool is_device_memory(uintptr_t address);

}  // namespace gfxsim::hip
