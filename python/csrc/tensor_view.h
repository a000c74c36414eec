// torch tensors as the C API sees them, and fresh ones for its outputs. Only functions of torch's stable ABI that 2.11
// has, so that one library serves every later torch, built for CPU, CUDA or ROCm.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "portattn/portattn.h"

namespace portattn_torch {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::headeronly::ScalarType;

// libtorch_cuda.so or libtorch_hip.so is in the process only if this torch was built for it, and never in the global
// symbol scope: ask for it by name, without loading it.
struct Accelerator {
  using CurrentStream = AOTITorchError (*)(int32_t device_index, void** stream);
  NVTEDeviceType device_type = NVTE_DEVICE_CUDA;
  CurrentStream current_stream = nullptr;
};

inline const Accelerator& accelerator() {
  static const Accelerator found = [] {
    for (const auto& [library, type] :
         {std::pair{"libtorch_cuda.so", NVTE_DEVICE_CUDA}, std::pair{"libtorch_hip.so", NVTE_DEVICE_HIP}}) {
      void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
      if (handle == nullptr) continue;
      void* symbol = dlsym(handle, "aoti_torch_get_current_cuda_stream");
      if (symbol != nullptr) return Accelerator{type, reinterpret_cast<Accelerator::CurrentStream>(symbol)};
    }
    return Accelerator{};
  }();
  return found;
}

inline void* current_stream(const Tensor& tensor) {
  if (tensor.is_cpu()) return nullptr;
  if (accelerator().current_stream == nullptr)
    throw std::runtime_error("this torch has no CUDA or HIP stream to offer");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(accelerator().current_stream(tensor.get_device_index(), &stream));
  return stream;
}

inline NVTEDType dtype_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return kNVTEFloat32;
    case ScalarType::Half:
      return kNVTEFloat16;
    case ScalarType::BFloat16:
      return kNVTEBFloat16;
    case ScalarType::Double:
      return kNVTEFloat64;
    case ScalarType::Int:
      return kNVTEInt32;
    case ScalarType::Long:
      return kNVTEInt64;
    case ScalarType::Short:
      return kNVTEInt16;
    case ScalarType::Byte:
    case ScalarType::Bool:
      return kNVTEByte;
    default:
      throw std::invalid_argument(
          std::string(name) + ": this dtype is not supported; q, k, v may be bfloat16, float16, float32 or float64");
  }
}

inline NVTEDeviceType device_type_of(const Tensor& tensor) {
  return tensor.is_cpu() ? nvte_cpu_device_type() : accelerator().device_type;
}

// A tensor argument of the C API that may be absent: ptr() is null then.
class View {
 public:
  View() = default;
  View(const Tensor& tensor, const char* name) : present_(true) {
    const auto sizes = tensor.sizes();
    const auto strides = tensor.strides();
    if (sizes.size() > NVTE_MAX_DIMS) {
      throw std::invalid_argument(std::string(name) + " has " + std::to_string(sizes.size()) + " dimensions, at most " +
                                  std::to_string(NVTE_MAX_DIMS) + " are allowed");
    }
    view_.struct_size = sizeof(NVTETensor);
    view_.data = tensor.data_ptr();
    view_.dtype = dtype_of(tensor, name);
    view_.ndim = static_cast<int32_t>(sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) {
      view_.shape[i] = sizes[i];
      view_.strides[i] = strides[i];
    }
    view_.device_type = device_type_of(tensor);
    view_.device_index = tensor.is_cpu() ? 0 : tensor.get_device_index();
  }
  View(const OptionalTensor& tensor, const char* name) : View() {
    if (tensor.has_value()) *this = View(*tensor, name);
  }

  // The same memory with its dimensions in another order.
  View permuted(std::initializer_list<int> order) const {
    View result = *this;
    int to = 0;
    for (int from : order) {
      result.view_.shape[to] = view_.shape[from];
      result.view_.strides[to++] = view_.strides[from];
    }
    return result;
  }

  void set_data(void* data, int64_t bytes) {
    view_.data = data;
    view_.shape[0] = bytes;
  }

  const NVTETensor* ptr() const { return present_ ? &view_ : nullptr; }

 private:
  NVTETensor view_{};
  bool present_ = false;
};

// A fresh contiguous tensor on `like`'s device.
inline Tensor fresh(const std::vector<int64_t>& shape, int32_t dtype, const Tensor& like) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i] > 1 ? shape[i] : 1;
  }
  int32_t device_type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.data(), strides.data(),
                                                  dtype, device_type, like.get_device_index(), &handle));
  return Tensor(handle);
}

inline Tensor fresh_like(const Tensor& like) {
  const auto sizes = like.sizes();
  int32_t dtype = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  return fresh({sizes.begin(), sizes.end()}, dtype, like);
}

// Kernels load 16 bytes at a time. A tensor that does not let them (an odd offset into a buffer, an odd stride, a last
// dimension that is not dense) is copied to one that does. A head dim that is not a multiple of 16 bytes never can:
// such a tensor is left as it is, for the backend that takes it.
inline bool is_loadable(const Tensor& tensor) {
  constexpr int64_t kLoadBytes = 16;
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  const size_t last = sizes.size() - 1;
  if (sizes[last] > 1 && strides[last] != 1) return false;
  const auto element_bytes = static_cast<int64_t>(tensor.element_size());
  if (sizes[last] * element_bytes % kLoadBytes != 0) return true;
  if (reinterpret_cast<uintptr_t>(tensor.data_ptr()) % kLoadBytes != 0) return false;
  for (size_t i = 0; i < last; ++i) {
    if (sizes[i] > 1 && strides[i] * element_bytes % kLoadBytes != 0) return false;
  }
  return true;
}

inline Tensor loadable(const Tensor& tensor) {
  if (tensor.dim() == 0 || tensor.numel() == 0 || is_loadable(tensor)) return tensor;
  Tensor copy = fresh_like(tensor);
  torch::stable::copy_(copy, tensor);
  return copy;
}

// Scratch for one call; torch's allocator takes it back when the object goes, in stream order.
class Workspace {
 public:
  Workspace(size_t bytes, const Tensor& like) {
    if (bytes == 0) return;
    constexpr uintptr_t kAlign = 256;
    const auto rounded = static_cast<int64_t>(bytes + kAlign);
    buffer_ = fresh({rounded}, aoti_torch_dtype_uint8(), like);
    view_ = View(*buffer_, "workspace");
    const auto address = reinterpret_cast<uintptr_t>(view_.ptr()->data);
    view_.set_data(reinterpret_cast<void*>((address + kAlign - 1) / kAlign * kAlign), static_cast<int64_t>(bytes));
  }
  const NVTETensor* ptr() const { return view_.ptr(); }

 private:
  OptionalTensor buffer_;
  View view_;
};

}  // namespace portattn_torch
