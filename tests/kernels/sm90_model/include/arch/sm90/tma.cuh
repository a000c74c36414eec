// The model's counterpart: copies are left for later; bulk adds are made when they are waited for, or before.
#pragma once

#include "arch/sm90/barrier.cuh"
#include "arch/sm90/tensor_map.h"

namespace portattn::sm90 {

constexpr int kSlabBytes = 128;
constexpr uint64_t kEvictFirst = 0, kEvictLast = 0;

// Where the 128-byte swizzle puts a byte of shared memory.
inline uint32_t swizzled(uint32_t address) { return address ^ (address >> 3 & 0x70); }

inline void load_box(void* smem, const CUtensorMap& map, Barrier& arrived, int col, int row, int head, int batch,
                     uint64_t /*cache_policy*/) {
  char* all = model::block().smem;
  const uint32_t to = smem_address(smem);
  model::copy_later([=, &map, &arrived] {
    for (int r = 0; r < map.box_rows; ++r) {
      for (int c = 0; c < kBoxColumns; ++c) {
        const int64_t at[4] = {col + c, row + r, head, batch};
        const char* from = map.data;
        bool inside = true;
        for (int i = 0; i < 4; ++i) {
          inside = inside && at[i] >= 0 && at[i] < map.sizes[i];
          from += at[i] * map.strides[i];
        }
        const uint16_t zero = 0;
        std::memcpy(all + swizzled(to + r * kSlabBytes + c * 2), inside ? from : reinterpret_cast<const char*>(&zero),
                    2);
      }
    }
    arrived.bring(map.box_rows * kSlabBytes);
  });
}

template <int Rows, int Cols>
void load_tile(char* smem, const CUtensorMap& map, Barrier& arrived, int row, int head, int batch,
               uint64_t cache_policy, int first_col = 0) {
  for (int col = 0; col < Cols; col += kBoxColumns) {
    load_box(smem + col / kBoxColumns * Rows * kSlabBytes, map, arrived, first_col + col, row, head, batch,
             cache_policy);
  }
}

inline void check_bulk(const void* a, const void* b, int bytes) {
  if ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | bytes) % 16 != 0) {
    model::broken("a bulk copy that is not of whole 16 bytes");
  }
}

inline void load_bulk(void* smem, const void* global, int bytes, Barrier& arrived) {
  check_bulk(smem, global, bytes);
  model::copy_later([=, &arrived] {
    std::memcpy(smem, global, bytes);
    arrived.bring(bytes);
  });
}

inline void write_bulk(float* global, const void* smem, int bytes, bool adds) {
  check_bulk(smem, global, bytes);
  const size_t count = static_cast<size_t>(bytes) / sizeof(float);
  auto& thread = model::thread();
  thread.writes.push_back({global, static_cast<const float*>(smem), count, adds, thread.num_writes++});
}
inline void add_bulk(float* global, const void* smem, int bytes) { write_bulk(global, smem, bytes, true); }
inline void store_bulk(float* global, const void* smem, int bytes) { write_bulk(global, smem, bytes, false); }

// Some have come to their end, too, in any order.
inline void wait_bulk_read() {
  for (int i = model::device().random() % 3; i > 0; --i) model::give_way();
  auto& writes = model::thread().writes;
  for (auto& write : writes) write.read();
  for (size_t i = writes.size(); i-- > 0;) {
    if (model::device().random() % 2 == 0) continue;
    writes[i].write();
    writes.erase(writes.begin() + i);
  }
  model::happened();
}
template <int Left = 0>
void wait_bulk() {
  wait_bulk_read();
  auto& writes = model::thread().writes;
  while (!writes.empty() && writes.front().number + Left < model::thread().num_writes) {
    writes.front().write();
    writes.erase(writes.begin());
  }
}

inline void prefetch_map(const CUtensorMap&) {}

}  // namespace portattn::sm90
