// sm_90: loads of boxes of a [batch, token, head, dim] tensor into shared memory by the tensor memory accelerator. What
// lies outside the tensor arrives as 0. A tile [rows, dim] arrives as slabs of 64 columns, each rows x 128 bytes with
// the 128-byte swizzle that wgmma reads.
#pragma once

#include <cuda.h>

#include "arch/sm90/barrier.cuh"
#include "arch/sm90/tensor_map.h"

namespace portattn::sm90 {

constexpr int kSlabBytes = 128;  // of one row of a slab

// L2 cache policies, as createpolicy would make them: for data read once, and for data that other blocks read again.
constexpr uint64_t kEvictFirst = 0x12F0000000000000ull;
constexpr uint64_t kEvictLast = 0x14F0000000000000ull;

// Coordinates are (first column, first row, head, batch entry). One thread calls it.
PA_DEVICE void load_box(void* smem, const CUtensorMap& map, Barrier& arrived, int col, int row, int head, int batch,
                        uint64_t cache_policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(smem_address(smem)),
      "l"(&map), "r"(smem_address(&arrived)), "r"(col), "r"(row), "r"(head), "r"(batch), "l"(cache_policy)
      : "memory");
}

// The tile of [Rows, Cols] whose first row and column these are, slab by slab.
template <int Rows, int Cols>
PA_DEVICE void load_tile(char* smem, const CUtensorMap& map, Barrier& arrived, int row, int head, int batch,
                         uint64_t cache_policy, int first_col = 0) {
  PA_UNROLL
  for (int col = 0; col < Cols; col += kBoxColumns) {
    load_box(smem + col / kBoxColumns * Rows * kSlabBytes, map, arrived, first_col + col, row, head, batch,
             cache_policy);
  }
}

// `bytes` that follow each other, a multiple of 16, as both addresses are. One thread calls it.
PA_DEVICE void load_bulk(void* smem, const void* global, int bytes, Barrier& arrived) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   smem_address(smem)),
               "l"(global), "r"(bytes), "r"(smem_address(&arrived))
               : "memory");
}

// Adds `bytes` of floats, a multiple of 16, from shared to global memory, without order. One thread calls it; its
// earlier adds, and those of others that it has synchronised with after their fence_async_proxy(), are what it sends.
PA_DEVICE void add_bulk(float* global, const void* smem, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(global),
               "r"(smem_address(smem)), "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// The same, in the place of what is there.
PA_DEVICE void store_bulk(float* global, const void* smem, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global), "r"(smem_address(smem)),
               "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// This thread's bulk adds and stores have read their shared memory; or have come to their end, all but the last `Left`.
PA_DEVICE void wait_bulk_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
template <int Left = 0>
PA_DEVICE void wait_bulk() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Left) : "memory");
}

PA_DEVICE void prefetch_map(const CUtensorMap& map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }

}  // namespace portattn::sm90
