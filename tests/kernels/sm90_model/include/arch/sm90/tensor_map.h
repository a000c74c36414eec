// The model's counterpart: a tensor map is what it was made from.
#pragma once

#include "attn/params.h"

struct CUtensorMap {
  const char* data;
  int64_t sizes[4];    // dim, tokens, heads, batch
  int64_t strides[4];  // bytes
  int box_rows;
};

namespace portattn::sm90 {

constexpr int kBoxColumns = 64;

class TensorMapEncoder {
 public:
  explicit TensorMapEncoder(DType) {}
  void operator()(CUtensorMap* map, const TensorView& view, const SeqSide& side, int32_t batch, int32_t dim,
                  int32_t heads, int32_t box_rows) {
    *map = {static_cast<const char*>(view.data),
            {dim, side.seqlen, heads, side.is_thd ? 1 : batch},
            {2, view.token_stride * 2, view.head_stride * 2, view.batch_stride * 2},
            box_rows};
  }
  int error() const { return 0; }
};

}  // namespace portattn::sm90
