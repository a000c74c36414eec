// portattn/thd.h: cu_seqlens of a batch of rows with several segments each.
#include "portattn/thd.h"

#include "core/capi/boundary.h"
#include "core/plugin.h"
#include "core/tensor.h"
#include "core/text.h"

namespace portattn {
namespace {

// "q.lengths": names a tensor of one side in messages.
class SideReader {
 public:
  SideReader(const NVTESegments& segments, const char* side, const Device& device)
      : segments_(segments), side_(side), device_(device) {}

  NVTEStatus read(SegmentSide* side) const {
    side->row_tokens = segments_.row_tokens;
    if (segments_.segment_ids != nullptr) {
      PA_RETURN_IF_ERROR(read_segment_ids(side));
    } else {
      PA_RETURN_IF_ERROR(read_lengths(side));
    }
    const int64_t count = side->rows * side->segments + 1;
    PA_RETURN_IF_ERROR(vector(segments_.cu_seqlens, "cu_seqlens", count, &side->cu_seqlens));
    if (segments_.cu_seqlens_padded == nullptr) return NVTE_SUCCESS;
    return vector(segments_.cu_seqlens_padded, "cu_seqlens_padded", count, &side->cu_seqlens_padded);
  }

 private:
  NVTEStatus read_lengths(SegmentSide* side) const {
    PA_RETURN_IF_ERROR(matrix(segments_.lengths, "lengths", -1, -1, &side->lengths));
    side->rows = segments_.lengths->shape[0];
    PA_RETURN_IF_ERROR(set_segments(segments_.lengths->shape[1], side));
    if (segments_.starts == nullptr) {
      if (side->segments == 1) return NVTE_SUCCESS;
      return fail(NVTE_INVALID_ARGUMENT, "%s.starts is NULL, but a row has %d segments: say where each starts", side_,
                  side->segments);
    }
    PA_RETURN_IF_ERROR(matrix(segments_.starts, "starts", side->rows, -1, &side->starts));
    side->starts_stride = segments_.starts->shape[1];
    const int64_t most = INT32_MAX / (side->rows > 0 ? side->rows : 1);
    if (side->starts_stride >= side->segments && side->starts_stride <= most) return NVTE_SUCCESS;
    return fail(NVTE_INVALID_ARGUMENT,
                "%s.starts has %lld entries a row; allowed: %d or more, one for each segment, and up to %lld", side_,
                static_cast<long long>(side->starts_stride), side->segments, static_cast<long long>(most));
  }

  // The number of segments is what the outputs have room for.
  NVTEStatus read_segment_ids(SegmentSide* side) const {
    if (segments_.lengths != nullptr || segments_.starts != nullptr) {
      return fail(NVTE_INVALID_ARGUMENT, "%s has segment_ids, and lengths or starts: pass one of the two", side_);
    }
    PA_RETURN_IF_ERROR(matrix(segments_.segment_ids, "segment_ids", -1, segments_.row_tokens, &side->segment_ids));
    side->rows = segments_.segment_ids->shape[0];
    PA_RETURN_IF_ERROR(check_tensor_struct(segments_.cu_seqlens_padded, name("cu_seqlens_padded").c_str()));
    PA_RETURN_IF_ERROR(check_tensor_struct(segments_.cu_seqlens, name("cu_seqlens").c_str()));
    const int64_t count = segments_.cu_seqlens->ndim == 1 ? segments_.cu_seqlens->shape[0] - 1 : -1;
    if (count < 0 || (side->rows == 0 ? count != 0 : count % side->rows != 0)) {
      return fail(NVTE_INVALID_ARGUMENT, "%s.cu_seqlens has %lld entries for %lld rows; allowed: rows * n + 1", side_,
                  static_cast<long long>(count + 1), static_cast<long long>(side->rows));
    }
    return set_segments(side->rows == 0 ? 0 : count / side->rows, side);
  }

  NVTEStatus set_segments(int64_t segments, SegmentSide* side) const {
    constexpr int64_t kMax = INT32_MAX;
    const bool tokens_fit = side->row_tokens >= 0 && side->row_tokens <= kMax / (side->rows > 0 ? side->rows : 1);
    if (!tokens_fit || segments > (kMax - 1) / (side->rows > 0 ? side->rows : 1)) {
      return fail(
          NVTE_INVALID_ARGUMENT,
          "%s has %lld rows of %lld tokens and %lld segments; allowed: at least 0 and fewer than 2^31 of each in "
          "the batch",
          side_, static_cast<long long>(side->rows), static_cast<long long>(side->row_tokens),
          static_cast<long long>(segments));
    }
    side->segments = static_cast<int32_t>(segments);
    return NVTE_SUCCESS;
  }

  std::string name(const char* field) const { return format_text("%s.%s", side_, field); }

  // A contiguous matrix; a size of -1 is any.
  NVTEStatus matrix(const NVTETensor* tensor, const char* field, int64_t rows, int64_t columns,
                    const int32_t** data) const {
    const std::string full_name = name(field);
    PA_RETURN_IF_ERROR(check_tensor_struct(tensor, full_name.c_str()));
    TensorRule rule = {full_name.c_str(), "rn", kNVTEInt32, 2, {}, false, true, 0};
    rule.shape[0] = rows < 0 ? tensor->shape[0] : rows;
    rule.shape[1] = columns < 0 ? tensor->shape[1] : columns;
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, device_));
    const bool is_contiguous = tensor->shape[0] <= 1 || tensor->strides[0] == tensor->shape[1];
    if (!is_contiguous && tensor->shape[1] > 0) {
      return fail(NVTE_INVALID_ARGUMENT, "%s has row stride %lld; allowed: %lld: make it contiguous", rule.name,
                  static_cast<long long>(tensor->strides[0]), static_cast<long long>(tensor->shape[1]));
    }
    *data = static_cast<const int32_t*>(tensor->data);
    return NVTE_SUCCESS;
  }

  NVTEStatus vector(const NVTETensor* tensor, const char* field, int64_t size, int32_t** data) const {
    const std::string full_name = name(field);
    const TensorRule rule = {full_name.c_str(), "n", kNVTEInt32, 1, {size}, true, true, 0};
    PA_RETURN_IF_ERROR(check_tensor(tensor, rule, device_));
    *data = static_cast<int32_t*>(tensor->data);
    return NVTE_SUCCESS;
  }

  const NVTESegments& segments_;
  const char* side_;
  const Device& device_;
};

NVTEStatus check_segments(const NVTESegments* segments, const char* name) {
  PA_RETURN_IF_ERROR(check_pointer(segments, name));
  if (segments->struct_size == sizeof(NVTESegments)) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT, "%s has struct_size %zu; allowed: %zu: set it to the size of the struct", name,
              segments->struct_size, sizeof(NVTESegments));
}

NVTEStatus make_cu_seqlens(const NVTESegments* q, const NVTESegments* kv, void* stream) {
  PA_RETURN_IF_ERROR(check_segments(q, "q"));
  if (kv != nullptr) PA_RETURN_IF_ERROR(check_segments(kv, "kv"));
  PA_RETURN_IF_ERROR(check_tensor_struct(q->cu_seqlens, "q.cu_seqlens"));
  Device device;
  PA_RETURN_IF_ERROR(find_device(q->cu_seqlens->device_type, q->cu_seqlens->device_index, &device));
  CuSeqlensParams params;
  PA_RETURN_IF_ERROR(SideReader(*q, "q", device).read(&params.q));
  if (kv != nullptr) PA_RETURN_IF_ERROR(SideReader(*kv, "kv", device).read(&params.kv));
  const DeviceScope scope(device);
  const int error = scope.error() != 0 ? scope.error() : device.plugin->cu_seqlens(params, stream);
  if (error == 0) return NVTE_SUCCESS;
  return fail(NVTE_DEVICE_ERROR, "launching cu_seqlens on %s device %d failed: %s (error %d)", device.plugin->target,
              device.index, device.plugin->error_text(error), error);
}

}  // namespace
}  // namespace portattn

extern "C" NVTEStatus nvte_make_cu_seqlens(const NVTESegments* q, const NVTESegments* kv, void* stream) {
  return portattn::api_call([&] { return portattn::make_cu_seqlens(q, kv, stream); });
}
