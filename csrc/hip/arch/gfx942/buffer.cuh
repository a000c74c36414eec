// gfx942 and gfx950: memory through a buffer descriptor. Its bounds are the hardware's business: what lies at or past
// the end reads as 0 and is not added to, and no memory is touched for it.
//
// clang has had builtins for all of this since version 22. An older one, such as that of ROCm 6.2, gets the intrinsics
// of LLVM behind them by name; PORTATTN_HIP_BUFFERS_BY_NAME asks any compiler for that.
#pragma once

#include "device/types.cuh"

namespace portattn::gfx942 {

typedef uint32_t Chunk __attribute__((ext_vector_type(4)));  // 16 bytes

#if !defined(PORTATTN_HIP_BUFFERS_BY_NAME) && __has_builtin(__builtin_amdgcn_make_buffer_rsrc) && \
    __has_builtin(__builtin_amdgcn_raw_buffer_load_b128) &&                                       \
    __has_builtin(__builtin_amdgcn_raw_ptr_buffer_atomic_fadd_f32)

using Descriptor = __amdgpu_buffer_rsrc_t;

PA_DEVICE Descriptor make_descriptor(const void* first, uint32_t bytes, int format) {
  return __builtin_amdgcn_make_buffer_rsrc(const_cast<void*>(first), 0, bytes, format);
}
PA_DEVICE Chunk buffer_load_chunk(Descriptor from, uint32_t offset) {
  return __builtin_amdgcn_raw_buffer_load_b128(from, offset, 0, 0);
}
PA_DEVICE float buffer_load_float(Descriptor from, uint32_t offset) {
  return __builtin_bit_cast(float, __builtin_amdgcn_raw_buffer_load_b32(from, offset, 0, 0));
}
PA_DEVICE void buffer_add(Descriptor to, uint32_t offset, float x) {
  __builtin_amdgcn_raw_ptr_buffer_atomic_fadd_f32(x, to, offset, 0, 0);
}

#else

typedef int Descriptor __attribute__((ext_vector_type(4)));

__device__ Chunk intrinsic_load_chunk(Descriptor, uint32_t, int, int) __asm("llvm.amdgcn.raw.buffer.load.v4i32");
__device__ float intrinsic_load_float(Descriptor, uint32_t, int, int) __asm("llvm.amdgcn.raw.buffer.load.f32");
__device__ float intrinsic_add(float, Descriptor, uint32_t, int, int) __asm("llvm.amdgcn.raw.buffer.atomic.fadd.f32");

PA_DEVICE Descriptor make_descriptor(const void* first, uint32_t bytes, int format) {
  const uint64_t address = reinterpret_cast<uint64_t>(first);
  return {static_cast<int>(address), static_cast<int>(address >> 32 & 0xffff), static_cast<int>(bytes), format};
}
PA_DEVICE Chunk buffer_load_chunk(Descriptor from, uint32_t offset) { return intrinsic_load_chunk(from, offset, 0, 0); }
PA_DEVICE float buffer_load_float(Descriptor from, uint32_t offset) { return intrinsic_load_float(from, offset, 0, 0); }
PA_DEVICE void buffer_add(Descriptor to, uint32_t offset, float x) { intrinsic_add(x, to, offset, 0, 0); }

#endif

// A value that all lanes share, in scalar registers.
template <class V>
PA_DEVICE V uniform(const V& x) {
  static_assert(sizeof(V) % 4 == 0, "whole registers");
  struct Words {
    int word[sizeof(V) / 4];
  } words = __builtin_bit_cast(Words, x);
  PA_UNROLL
  for (int& word : words.word) word = __builtin_amdgcn_readfirstlane(word);
  return __builtin_bit_cast(V, words);
}

// Rows of one head, the same for all lanes. What lies at or past `rows` reads as 0. Offsets are the lanes' own.
class RowsInMemory {
 public:
  // Offset of a chunk that is never inside.
  static constexpr uint32_t kNowhere = 0x80000000u;

  // `width`: bytes of a row that may be read; the stride of a single row may be anything. The rows end before kNowhere.
  PA_DEVICE RowsInMemory(const void* first, uint32_t row_bytes, int32_t rows, uint32_t width)
      : descriptor_(make_descriptor(uniform(first), uniform(rows > 0 ? row_bytes * (rows - 1) + width : 0u), kRaw)) {}

  PA_DEVICE Chunk chunk(uint32_t offset) const { return buffer_load_chunk(descriptor_, offset); }
  PA_DEVICE float value(uint32_t offset) const { return buffer_load_float(descriptor_, offset); }
  // Adds to a float, natively; the order of additions is not fixed.
  PA_DEVICE void add(uint32_t offset, int constant_offset, float x) const {
    buffer_add(descriptor_, offset + constant_offset, x);
  }

 private:
  static constexpr int kRaw = 0x00027000;  // 32-bit data, no stride, no swizzle
  Descriptor descriptor_;
};

}  // namespace portattn::gfx942
