// How many tiles of rows a side of a call makes, for rows of the table that number them.
#pragma once

#include "core/checked_math.h"
#include "core/plugin.h"

namespace portattn {

// Of a thd side `rows` are all of its tokens, else those of a sequence.
inline CheckedSize count_tiles(bool is_thd, int64_t batch, int64_t rows, int64_t tile_rows) {
  if (is_thd) return seq_plan_tile_capacity(rows, batch, tile_rows);
  return CheckedSize((rows + tile_rows - 1) / tile_rows) * batch;
}

}  // namespace portattn
