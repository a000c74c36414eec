// Runs the sequence planner of a device library by itself: one side, through the library's function table.
#include <dlfcn.h>

#include <cstdint>

#include "plugin.h"

// All pointers but `library` are device memory. Returns the planner's error code, -1 when the library does not load.
extern "C" int plan(const char* library, int32_t batch, int64_t total_tokens, int32_t tile_rows, int32_t tile_capacity,
                    const int32_t* cu_seqlens, const int32_t* cu_seqlens_padded, void* spans, void* tiles,
                    int32_t* num_tiles, int32_t* next_item) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return -1;
  const auto entry = reinterpret_cast<decltype(&portattn_plugin)>(dlsym(handle, "portattn_plugin"));
  portattn::SeqPlanParams params;
  params.batch = batch;
  params.q.cu_seqlens = cu_seqlens;
  params.q.cu_seqlens_padded = cu_seqlens_padded;
  params.q.total_tokens = total_tokens;
  params.q.tile_rows = tile_rows;
  params.q.tile_capacity = tile_capacity;
  params.q.spans = static_cast<portattn::SeqSpan*>(spans);
  params.q.tiles = static_cast<portattn::TileRef*>(tiles);
  params.q.num_tiles = num_tiles;
  params.next_item = next_item;
  return entry()->seq_plan(params, nullptr);
}
