// Row: the exact fallback, which takes what the others do not.
#include <algorithm>

#include "core/backends/table.h"
#include "core/backends/tiles.h"

namespace portattn {
namespace {

bool enabled(const AttnConfig&) { return true; }

void refuse_head_dim(int64_t head_dim, const char* name, Refusal* refusal) {
  if (head_dim <= kUnfusedMaxHeadDim) return;
  refusal->because("%s is %lld (allowed: up to %d)", name, static_cast<long long>(head_dim), kUnfusedMaxHeadDim);
}

// Blocks of a launch are numbered with 31 bits; a block is a tile of rows of one head, or one part of its head dim.
void refuse_blocks(const AttnConfig& config, CheckedSize tiles, int64_t heads, const char* side, Refusal* refusal) {
  constexpr int64_t kNarrowestPart = 64;
  const int64_t parts = (std::max(config.head_dim_qk, config.head_dim_v) + kNarrowestPart - 1) / kNarrowestPart;
  const CheckedSize blocks = tiles * heads * parts;
  if (blocks.valid() && blocks.value() <= INT32_MAX) return;
  refusal->because("the %s make %lld tiles of %lld heads in %lld parts (allowed: a product below 2^31)", side,
                   static_cast<long long>(tiles.valid() ? tiles.value() : INT64_MAX), static_cast<long long>(heads),
                   static_cast<long long>(parts));
}

void refuse(const AttnConfig& config, const Device&, Refusal* refusal) {
  refuse_head_dim(config.head_dim_qk, "head_dim_qk", refusal);
  refuse_head_dim(config.head_dim_v, "head_dim_v", refusal);
  if (config.is_arbitrary_mask() && (config.q_is_thd() || config.kv_is_thd())) {
    refusal->because("mask_type is arbitrary with q_format %s and kv_format %s (allowed with it: bshd, sbhd, bhsd)",
                     format_name(config.q_format), format_name(config.kv_format));
  }
  refuse_blocks(config, count_tiles(config.q_is_thd(), config.batch_size, config.rows_q(), kUnfusedBlockQ),
                config.num_heads_q, "queries", refusal);
  refuse_blocks(config, count_tiles(config.kv_is_thd(), config.batch_size, config.rows_kv(), kUnfusedBlockKv),
                config.num_heads_kv, "keys", refusal);
}

Tiling tiling(const AttnConfig&, const Device&, NVTEDirection direction) {
  Tiling tiling;
  tiling.tile_rows_q = kUnfusedBlockQ;
  if (direction == NVTE_BACKWARD) tiling.tile_rows_kv = kUnfusedBlockKv;
  return tiling;
}

int forward(const Launch& launch) {
  return launch.device.plugin->unfused_fwd(launch.params, launch.dtype, launch.stream);
}

int backward(const Launch& launch) {
  return launch.device.plugin->unfused_bwd(launch.params, launch.dtype, launch.stream);
}

}  // namespace

const BackendRow kUnfusedRow = {NVTE_Backend_Unfused,
                                "unfused",
                                "the exact fallback: any head dim up to 1024, fp64, arbitrary masks",
                                0,
                                "always",
                                enabled,
                                refuse,
                                tiling,
                                forward,
                                backward};

}  // namespace portattn
