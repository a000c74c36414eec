// Host side of the tensor memory accelerator: describes a [batch, token, head, dim] tensor to it. That takes 45 ns, so
// no description is kept from call to call.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "attn/params.h"

namespace portattn::sm90 {

constexpr int kBoxColumns = 64;  // of 16-bit elements: a slab

// Tensors of one 16-bit dtype whose rows and strides are multiples of 16 bytes.
class TensorMapEncoder {
 public:
  explicit TensorMapEncoder(DType dtype)
      : type_(dtype == DType::kBFloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16) {}

  // Boxes of box_rows x kBoxColumns. What lies outside the tensor reads as 0.
  void operator()(CUtensorMap* map, const TensorView& view, const SeqSide& side, int32_t batch, int32_t dim,
                  int32_t heads, int32_t box_rows) {
    if (side.seqlen == 0) return;  // nobody will load from it
    const cuuint64_t sizes[4] = {static_cast<cuuint64_t>(dim), static_cast<cuuint64_t>(side.seqlen),
                                 static_cast<cuuint64_t>(heads), static_cast<cuuint64_t>(side.is_thd ? 1 : batch)};
    const cuuint64_t strides[3] = {bytes(view.token_stride), bytes(view.head_stride), bytes(view.batch_stride)};
    const cuuint32_t box[4] = {kBoxColumns, static_cast<cuuint32_t>(box_rows), 1, 1}, steps[4] = {1, 1, 1, 1};
    const auto encode = driver_function();
    const CUresult result =
        encode == nullptr
            ? CUDA_ERROR_NOT_SUPPORTED
            : encode(map, type_, 4, view.data, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                     CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) error_ = static_cast<int>(result);  // the runtime has the driver's numbers
  }

  // 0 if all have succeeded.
  int error() const { return error_; }

 private:
  static cuuint64_t bytes(int64_t stride) { return static_cast<cuuint64_t>(stride * 2); }

  // Looked up once: nothing links to the driver. Null where the driver is too old.
  static decltype(&cuTensorMapEncodeTiled) driver_function() {
    static const auto function = [] {
      void* found = nullptr;
      cudaDriverEntryPointQueryResult result;
      const cudaError_t error =
          cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
      return error == cudaSuccess ? reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found) : nullptr;
    }();
    return function;
  }

  CUtensorMapDataType type_;
  int error_ = 0;
};

}  // namespace portattn::sm90
