// XLA's buffers as the C API sees them. A call names its operands and results in an attribute ("q kv cu_seqlens_q"), so
// each call carries what it uses and nothing else; a packed buffer (qkv, kv and their gradients) becomes several
// strided views, so that nothing is split or copied.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "portattn/portattn.h"
#include "xla/ffi/api/ffi.h"

namespace portattn_jax {

namespace ffi = xla::ffi;

struct DevicePlace {
  NVTEDeviceType type;
  int32_t index;
};

inline NVTEDType dtype_of(ffi::DataType dtype, std::string_view name) {
  switch (dtype) {
    case ffi::DataType::F32:
      return kNVTEFloat32;
    case ffi::DataType::F16:
      return kNVTEFloat16;
    case ffi::DataType::BF16:
      return kNVTEBFloat16;
    case ffi::DataType::F64:
      return kNVTEFloat64;
    case ffi::DataType::S32:
    case ffi::DataType::U32:
      return kNVTEInt32;
    case ffi::DataType::S64:
      return kNVTEInt64;
    case ffi::DataType::U8:
    case ffi::DataType::PRED:
      return kNVTEByte;
    default:
      throw std::invalid_argument(
          std::string(name) + ": this dtype is not supported; q, k, v may be bfloat16, float16, float32 or float64");
  }
}

// The operands and results of one call, by name.
class BufferViews {
 public:
  BufferViews(DevicePlace place, int64_t packed_dim) : place_(place), packed_dim_(packed_dim) {}

  // The next name of the list belongs to `buffer`.
  void add(std::string_view* names, const ffi::AnyBuffer& buffer) {
    const std::string_view name = names->substr(0, names->find(' '));
    names->remove_prefix(std::min(names->size(), name.size() + 1));
    const NVTETensor whole = contiguous_view(name, buffer);
    if (name == "qkv" || name == "kv" || name == "dqkv" || name == "dkv") {
      add_parts(name, whole);
    } else {
      put(name, name == "rng_state" ? as_int64(whole) : name == "workspace" ? aligned(whole) : whole);
    }
  }

  // Null for a tensor that the call does not have.
  const NVTETensor* find(std::string_view name) const {
    for (size_t i = 0; i < size_; ++i) {
      if (entries_[i].name == name) return &entries_[i].view;
    }
    return nullptr;
  }

 private:
  struct Entry {
    std::string_view name;
    NVTETensor view;
  };

  void put(std::string_view name, const NVTETensor& view) {
    if (size_ == entries_.size()) throw std::invalid_argument("a call with more tensors than attention has");
    entries_[size_++] = Entry{name, view};
  }

  NVTETensor contiguous_view(std::string_view name, const ffi::AnyBuffer& buffer) const {
    const auto dims = buffer.dimensions();
    if (dims.size() > NVTE_MAX_DIMS) {
      throw std::invalid_argument(std::string(name) + " has " + std::to_string(dims.size()) + " dimensions, at most " +
                                  std::to_string(NVTE_MAX_DIMS) + " are allowed");
    }
    NVTETensor view{};
    view.struct_size = sizeof(NVTETensor);
    view.data = buffer.untyped_data();
    view.dtype = dtype_of(buffer.element_type(), name);
    view.ndim = static_cast<int32_t>(dims.size());
    view.device_type = place_.type;
    view.device_index = place_.index;
    int64_t stride = 1;
    for (size_t i = dims.size(); i-- > 0;) {
      view.shape[i] = dims[i];
      view.strides[i] = stride;
      stride *= dims[i];
    }
    return view;
  }

  // [..., 2 or 3, ...] -> views without that dimension, one after the other: "dkv" -> "dk", "dv".
  void add_parts(std::string_view name, const NVTETensor& whole) {
    static constexpr std::string_view kParts[2][3] = {{"q", "k", "v"}, {"dq", "dk", "dv"}};
    const bool is_gradient = name[0] == 'd';
    const int64_t count = static_cast<int64_t>(name.size()) - is_gradient;
    if (packed_dim_ < 0 || packed_dim_ >= whole.ndim || whole.shape[packed_dim_] != count) {
      throw std::invalid_argument(std::string(name) + " has no dimension of size " + std::to_string(count) +
                                  " where its layout has one");
    }
    NVTETensor part = whole;
    part.ndim = whole.ndim - 1;
    for (int64_t i = packed_dim_; i < part.ndim; ++i) {
      part.shape[i] = whole.shape[i + 1];
      part.strides[i] = whole.strides[i + 1];
    }
    const int64_t bytes = part.dtype == kNVTEFloat32 ? 4 : part.dtype == kNVTEFloat64 ? 8 : 2;
    for (int64_t i = 0; i < count; ++i) {
      put(kParts[is_gradient][3 - count + i], part);
      part.data = static_cast<char*>(part.data) + whole.strides[packed_dim_] * bytes;
    }
  }

  // Pairs of 32-bit words, which is what jax has without x64, as 64-bit integers.
  static NVTETensor as_int64(NVTETensor view) {
    view.dtype = kNVTEInt64;
    view.shape[0] /= 2;
    return view;
  }

  // XLA aligns buffers to 256 bytes on a GPU, to less on the host: Python asks for that many bytes more.
  static NVTETensor aligned(NVTETensor view) {
    constexpr uintptr_t kAlignment = 256;
    const auto address = reinterpret_cast<uintptr_t>(view.data);
    const uintptr_t first = (address + kAlignment - 1) / kAlignment * kAlignment;
    view.shape[0] -= static_cast<int64_t>(first - address);
    view.data = reinterpret_cast<void*>(first);
    return view;
  }

  DevicePlace place_;
  int64_t packed_dim_;
  std::array<Entry, 24> entries_;
  size_t size_ = 0;
};

}  // namespace portattn_jax
