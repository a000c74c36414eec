// How wgmma is told of an operand in shared memory.
// PTX ISA, "Matrix Descriptor Format":
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-shared-memory-layout
#pragma once

#include "device/types.cuh"

namespace portattn::sm90 {

// Where an operand in shared memory starts and how its 8-row groups follow each other (128-byte swizzle).
// [rows, 64-column slabs], the product runs along the columns: `address` + 32 bytes is the next step of 16 columns.
PA_DEVICE uint64_t descriptor(uint32_t address) {
  return (uint64_t{1} << 62) | (uint64_t{1024 >> 4} << 32) | (uint64_t{1} << 16) | ((address & 0x3ffff) >> 4);
}
// The same tile, the product runs along the rows: `address` + 2048 bytes is the next step of 16 rows.
PA_DEVICE uint64_t descriptor_transposed(uint32_t address, int slab_bytes) {
  return (uint64_t{1} << 62) | (uint64_t{1024 >> 4} << 32) | (static_cast<uint64_t>(slab_bytes >> 4) << 16) |
         ((address & 0x3ffff) >> 4);
}

// The descriptor of what lies `bytes` further on.
PA_DEVICE uint64_t advance(uint64_t descriptor, int bytes) { return descriptor + (bytes >> 4); }

}  // namespace portattn::sm90
