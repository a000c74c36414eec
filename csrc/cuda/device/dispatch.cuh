// From a run-time dtype to a template argument.
#pragma once

#include "device/types.cuh"

namespace portattn {

constexpr int kUnknownDType = 1;  // cudaErrorInvalidValue

// f(T{}) for the type that `dtype` names.
template <class F>
int with_dtype(DType dtype, F f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(float{});
    case DType::kFloat16:
      return f(half{});
    case DType::kBFloat16:
      return f(bf16{});
    case DType::kFloat64:
      return f(double{});
  }
  return kUnknownDType;
}

}  // namespace portattn
