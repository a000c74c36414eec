// Host interface of cu_seqlens from per-row segments. Plain C++, seen by csrc/core. One launch serves queries and keys.
#pragma once

#include <cstdint>

namespace portattn {

// One side; cu_seqlens == nullptr means there is nothing to do for it.
struct SegmentSide {
  const int32_t* lengths = nullptr;      // [rows, segments], or null with segment_ids
  const int32_t* starts = nullptr;       // [rows, starts_stride], fewer than 2^31, or null
  const int32_t* segment_ids = nullptr;  // [rows, row_tokens] or null
  int64_t rows = 0;
  int64_t row_tokens = 0;  // rows * row_tokens < 2^31
  int64_t starts_stride = 0;
  int32_t segments = 0;                  // of a row
  int32_t* cu_seqlens = nullptr;         // out [rows * segments + 1]
  int32_t* cu_seqlens_padded = nullptr;  // out [rows * segments + 1] or null
};

struct CuSeqlensParams {
  SegmentSide q, kv;
};

int launch_cu_seqlens(const CuSeqlensParams& params, void* stream);

}  // namespace portattn
