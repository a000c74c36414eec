// Tensor checks. The path without an error touches no string; messages are put together when a check has failed.
#include "core/tensor.h"

#include "core/checked_math.h"
#include "core/config.h"
#include "core/status.h"
#include "core/text.h"

namespace portattn {
namespace {

bool is_aligned(const void* pointer, int64_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

const char* any_dtype_name(int64_t dtype) {
  switch (dtype) {
    case kNVTEByte:
      return "byte";
    case kNVTEInt32:
      return "int32";
    case kNVTEInt64:
      return "int64";
    default: {
      const char* name = dtype_name(dtype);
      return name != nullptr ? name : "unknown";
    }
  }
}

std::string shape_text(const int64_t* shape, int32_t ndim) {
  std::string text = "[";
  for (int32_t i = 0; i < ndim; ++i) text += format_text("%s%lld", i ? ", " : "", static_cast<long long>(shape[i]));
  return text + "]";
}

std::string letters(const char* dims) {
  std::string text;
  for (const char* c = dims; *c != '\0'; ++c) text += (text.empty() ? "" : ", ") + std::string(1, *c);
  return "[" + text + "]";
}

NVTEStatus check_kind(const NVTETensor& tensor, const TensorRule& rule, const Device& device) {
  const int32_t dtype = static_cast<int32_t>(tensor.dtype), type = static_cast<int32_t>(tensor.device_type);
  if (dtype != rule.dtype) {
    return fail(NVTE_INVALID_ARGUMENT, "%s has dtype %d (%s); the config asks for %d (%s): convert it", rule.name,
                dtype, any_dtype_name(dtype), rule.dtype, any_dtype_name(rule.dtype));
  }
  if (type == static_cast<int32_t>(device.type) && tensor.device_index == device.index) return NVTE_SUCCESS;
  const char* name = device_name(type);
  return fail(NVTE_INVALID_ARGUMENT,
              "%s is on device %s:%d; the config names %s:%d: move it or set the config's device", rule.name,
              name != nullptr ? name : "unknown", tensor.device_index, device_name(device.type), device.index);
}

NVTEStatus check_shape(const NVTETensor& tensor, const TensorRule& rule) {
  bool equal = tensor.ndim == rule.ndim;
  for (int32_t i = 0; equal && i < rule.ndim; ++i) equal = tensor.shape[i] == rule.shape[i];
  if (equal) return NVTE_SUCCESS;
  if (tensor.ndim < 0 || tensor.ndim > NVTE_MAX_DIMS) {
    return fail(NVTE_INVALID_ARGUMENT, "%s has ndim %d; the config asks for %d dimensions", rule.name, tensor.ndim,
                rule.ndim);
  }
  return fail(NVTE_INVALID_ARGUMENT, "%s has shape %s; the config asks for %s = %s: pass that or change the config",
              rule.name, shape_text(tensor.shape, tensor.ndim).c_str(), letters(rule.dims).c_str(),
              shape_text(rule.shape, rule.ndim).c_str());
}

// One dimension of more than one element.
NVTEStatus check_stride(int64_t stride, int32_t dim, const TensorRule& rule) {
  const char letter = rule.dims[dim];
  if (stride < 0) {
    return fail(NVTE_INVALID_ARGUMENT,
                "%s has stride %lld in dimension %c; negative strides are not supported: copy it", rule.name,
                static_cast<long long>(stride), letter);
  }
  if (stride == 0 && rule.is_output) {
    return fail(NVTE_INVALID_ARGUMENT,
                "%s is an output with stride 0 in dimension %c, so that its elements share memory: pass a tensor "
                "whose elements are distinct",
                rule.name, letter);
  }
  if (dim == rule.ndim - 1 && rule.unit_last_stride) {
    if (stride == 1) return NVTE_SUCCESS;
    return fail(NVTE_INVALID_ARGUMENT, "%s has stride %lld in its last dimension %c; allowed: 1: make it contiguous",
                rule.name, static_cast<long long>(stride), letter);
  }
  const int64_t bytes = element_bytes(rule.dtype);
  if (rule.alignment_bytes > bytes && stride % (rule.alignment_bytes / bytes) != 0) {
    return fail(NVTE_INVALID_ARGUMENT,
                "%s has stride %lld in dimension %c, which is not a multiple of %d bytes, as the chosen backend needs: "
                "make it contiguous or set backend to unfused",
                rule.name, static_cast<long long>(stride), letter, rule.alignment_bytes);
  }
  return NVTE_SUCCESS;
}

// Strides, and that the last element is an address at all.
NVTEStatus check_extent(const NVTETensor& tensor, const TensorRule& rule) {
  CheckedSize last(0);
  for (int32_t i = 0; i < rule.ndim; ++i) {
    if (rule.shape[i] <= 1) continue;
    PA_RETURN_IF_ERROR(check_stride(tensor.strides[i], i, rule));
    last = last + CheckedSize(rule.shape[i] - 1) * tensor.strides[i];
  }
  const CheckedSize end = (last + 1) * element_bytes(rule.dtype);
  uintptr_t address;
  if (end.valid() && !__builtin_add_overflow(reinterpret_cast<uintptr_t>(tensor.data),
                                             static_cast<uintptr_t>(end.value()), &address)) {
    return NVTE_SUCCESS;
  }
  return fail(NVTE_INVALID_ARGUMENT, "%s has shape %s with strides %s: it reaches beyond the address space", rule.name,
              shape_text(tensor.shape, rule.ndim).c_str(), shape_text(tensor.strides, rule.ndim).c_str());
}

NVTEStatus check_data(const NVTETensor& tensor, const TensorRule& rule) {
  if (tensor.data == nullptr) {
    return fail(NVTE_INVALID_ARGUMENT, "%s has data NULL, but shape %s: pass its memory", rule.name,
                shape_text(tensor.shape, rule.ndim).c_str());
  }
  const int32_t bytes = element_bytes(rule.dtype);
  const int32_t alignment = rule.alignment_bytes > bytes ? rule.alignment_bytes : bytes;
  if (is_aligned(tensor.data, alignment)) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT,
              "%s has its data at %p; it must be aligned to %d bytes: copy it to such an address", rule.name,
              tensor.data, alignment);
}

bool is_empty(const int64_t* shape, int32_t ndim) {
  for (int32_t i = 0; i < ndim; ++i) {
    if (shape[i] == 0) return true;
  }
  return false;
}

// What a kernel multiplies an index of the dimension with. Strides of an empty tensor have not been checked.
int64_t view_stride(const NVTETensor& tensor, int32_t dim) {
  return tensor.shape[dim] <= 1 || is_empty(tensor.shape, tensor.ndim) ? 0 : tensor.strides[dim];
}

}  // namespace

const Format& format_of(int64_t format) {
  static constexpr Format kSbhd = {"sbhd", 1, 0, 2};
  static constexpr Format kBshd = {"bshd", 0, 1, 2};
  static constexpr Format kBhsd = {"bhsd", 0, 2, 1};
  static constexpr Format kThd = {"thd", -1, 0, 1};
  switch (format) {
    case NVTE_SBHD:
      return kSbhd;
    case NVTE_BHSD:
      return kBhsd;
    case NVTE_THD:
      return kThd;
    default:
      return kBshd;
  }
}

int32_t element_bytes(int64_t dtype) {
  switch (dtype) {
    case kNVTEByte:
      return 1;
    case kNVTEFloat16:
    case kNVTEBFloat16:
      return 2;
    case kNVTEInt32:
    case kNVTEFloat32:
      return 4;
    default:
      return 8;
  }
}

NVTEStatus check_tensor_struct(const NVTETensor* tensor, const char* name) {
  if (tensor == nullptr) {
    return fail(NVTE_INVALID_ARGUMENT, "%s is NULL, but the config asks for it: pass a tensor", name);
  }
  if (!is_aligned(tensor, alignof(NVTETensor))) {
    return fail(NVTE_INVALID_ARGUMENT, "%s points to %p, which is not aligned for an NVTETensor: pass one that is",
                name, static_cast<const void*>(tensor));
  }
  if (tensor->struct_size != sizeof(NVTETensor)) {
    return fail(NVTE_INVALID_ARGUMENT, "%s has struct_size %zu; allowed: %zu: set it to sizeof(NVTETensor)", name,
                tensor->struct_size, sizeof(NVTETensor));
  }
  return NVTE_SUCCESS;
}

NVTEStatus check_tensor(const NVTETensor* tensor, const TensorRule& rule, const Device& device) {
  PA_RETURN_IF_ERROR(check_tensor_struct(tensor, rule.name));
  PA_RETURN_IF_ERROR(check_kind(*tensor, rule, device));
  PA_RETURN_IF_ERROR(check_shape(*tensor, rule));
  if (is_empty(rule.shape, rule.ndim)) return NVTE_SUCCESS;
  PA_RETURN_IF_ERROR(check_data(*tensor, rule));
  return check_extent(*tensor, rule);
}

NVTEStatus check_absent(const NVTETensor* tensor, const char* name, const char* when) {
  if (tensor == nullptr) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT, "%s is given, but the config does not ask for it: pass NULL, or set %s", name,
              when);
}

TensorView token_view(const NVTETensor& tensor, const Format& format) {
  TensorView view;
  view.data = tensor.data;
  view.batch_stride = format.batch < 0 ? 0 : view_stride(tensor, format.batch);
  view.token_stride = view_stride(tensor, format.token);
  view.head_stride = view_stride(tensor, format.head);
  return view;
}

ScoreView score_view(const NVTETensor& tensor) {
  // Kernels read a dimension of stride 0 without a bound, so an empty tensor must not have any.
  if (is_empty(tensor.shape, tensor.ndim)) return ScoreView{tensor.data, 1, 1, 1, 1};
  return ScoreView{tensor.data, view_stride(tensor, 0), view_stride(tensor, 1), view_stride(tensor, 2),
                   view_stride(tensor, 3)};
}

}  // namespace portattn
