#include "metadata.h"

#include <map>

#include "error.h"

namespace gfxsim {
namespace {

// A value of MessagePack, as far as compilers use it in code objects.
struct Value {
  uint64_t number = 0;
  std::string text;
  std::vector<Value> array;
  std::map<std::string, Value> map;

  const Value& operator[](const std::string& key) const {
    static const Value kAbsent;
    const auto found = map.find(key);
    return found == map.end() ? kAbsent : found->second;
  }
  uint32_t word() const { return static_cast<uint32_t>(number); }
};

class Reader {
 public:
  explicit Reader(const std::vector<uint8_t>& bytes) : bytes_(bytes) {}

  Value read(int depth = 0) {
    if (depth > kDeepest) fail();
    const uint8_t tag = byte();
    if (tag < 0x80) return number(tag);
    if (tag < 0x90) return map(tag & 0x0f, depth);
    if (tag < 0xa0) return array(tag & 0x0f, depth);
    if (tag < 0xc0) return text(tag & 0x1f);
    if (tag >= 0xe0) return number(static_cast<uint64_t>(static_cast<int8_t>(tag)));
    switch (tag) {
      case 0xc0:
      case 0xc2:
        return number(0);
      case 0xc3:
        return number(1);
      case 0xcc:
      case 0xd0:
        return number(big_endian(1));
      case 0xcd:
      case 0xd1:
        return number(big_endian(2));
      case 0xce:
      case 0xd2:
        return number(big_endian(4));
      case 0xcf:
      case 0xd3:
        return number(big_endian(8));
      case 0xd9:
        return text(big_endian(1));
      case 0xda:
        return text(big_endian(2));
      case 0xdb:
        return text(big_endian(4));
      case 0xdc:
        return array(big_endian(2), depth);
      case 0xdd:
        return array(big_endian(4), depth);
      case 0xde:
        return map(big_endian(2), depth);
      case 0xdf:
        return map(big_endian(4), depth);
      default:
        fail();
    }
  }

 private:
  static constexpr int kDeepest = 16;

  [[noreturn]] void fail() const {
    throw Error(GFXSIM_INVALID_OBJECT, format("the object's metadata is not MessagePack at byte %zu", next_));
  }

  uint8_t byte() {
    if (next_ >= bytes_.size()) fail();
    return bytes_[next_++];
  }

  uint64_t big_endian(int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value = value << 8 | byte();
    return value;
  }

  static Value number(uint64_t n) {
    Value value;
    value.number = n;
    return value;
  }

  Value text(uint64_t length) {
    if (length > bytes_.size() - next_) fail();
    Value value;
    value.text.assign(bytes_.begin() + next_, bytes_.begin() + next_ + length);
    next_ += length;
    return value;
  }

  Value array(uint64_t length, int depth) {
    Value value;
    for (uint64_t i = 0; i < length; ++i) value.array.push_back(read(depth + 1));
    return value;
  }

  Value map(uint64_t length, int depth) {
    Value value;
    for (uint64_t i = 0; i < length; ++i) {
      const std::string key = read(depth + 1).text;
      value.map[key] = read(depth + 1);
    }
    return value;
  }

  const std::vector<uint8_t>& bytes_;
  size_t next_ = 0;
};

KernelMetadata read_kernel(const Value& kernel) {
  KernelMetadata result;
  result.name = kernel[".name"].text;
  result.descriptor = kernel[".symbol"].text;
  result.kernarg_bytes = kernel[".kernarg_segment_size"].word();
  result.lds_bytes = kernel[".group_segment_fixed_size"].word();
  result.scratch_bytes = kernel[".private_segment_fixed_size"].word();
  result.max_threads = kernel[".max_flat_workgroup_size"].word();
  result.vgprs = kernel[".vgpr_count"].word();
  result.agprs = kernel[".agpr_count"].word();
  result.sgprs = kernel[".sgpr_count"].word();
  result.vgpr_spills = kernel[".vgpr_spill_count"].word();
  result.sgpr_spills = kernel[".sgpr_spill_count"].word();
  for (const Value& argument : kernel[".args"].array) {
    result.arguments.push_back({argument[".value_kind"].text, argument[".offset"].word(), argument[".size"].word()});
  }
  return result;
}

}  // namespace

std::vector<KernelMetadata> read_metadata(const std::vector<uint8_t>& note) {
  if (note.empty()) throw Error(GFXSIM_INVALID_OBJECT, "the object has no AMDGPU metadata note: was it stripped?");
  std::vector<KernelMetadata> kernels;
  const Value root = Reader(note).read();
  for (const Value& kernel : root["amdhsa.kernels"].array) kernels.push_back(read_kernel(kernel));
  return kernels;
}

}  // namespace gfxsim
