// Checks one NVTETensor against what the config demands of it, and turns it into the views that kernels read.
#pragma once

#include "core/plugin.h"
#include "cuda/attn/params.h"
#include "portattn/types.h"

namespace portattn {

// The order of dimensions of a q, k, v or o like tensor, and which of them is which. thd has no batch dimension.
struct Format {
  const char* dims;  // "bshd"
  int32_t batch, token, head;
};

const Format& format_of(int64_t format);

// What a tensor must be. `dims` names its dimensions in messages, one letter each.
struct TensorRule {
  const char* name;
  const char* dims;
  int32_t dtype;
  int32_t ndim;
  int64_t shape[NVTE_MAX_DIMS];
  bool is_output;           // elements must not share memory by a stride of 0
  bool unit_last_stride;    // the last dimension is contiguous
  int32_t alignment_bytes;  // of the base pointer and of every other stride; at least the element's size
};

int32_t element_bytes(int64_t dtype);

// What must hold before a field of `tensor` is read: not null, aligned, and of the size that this library knows.
NVTEStatus check_tensor_struct(const NVTETensor* tensor, const char* name);

// NVTE_INVALID_ARGUMENT, naming the tensor, what it is and what it must be, unless `tensor` follows `rule` and lies on
// `device`. Data may be null only where there is no element.
NVTEStatus check_tensor(const NVTETensor* tensor, const TensorRule& rule, const Device& device);

// A tensor that the config does not ask for: must be null. `when` says which attribute would ask for it.
NVTEStatus check_absent(const NVTETensor* tensor, const char* name, const char* when);

// Views of a tensor that check_tensor() has passed. A dimension of size 1 gets stride 0, whatever it was
// given; the strides of an empty tensor are not looked at.
TensorView token_view(const NVTETensor& tensor, const Format& format);
ScoreView score_view(const NVTETensor& tensor);

}  // namespace portattn
