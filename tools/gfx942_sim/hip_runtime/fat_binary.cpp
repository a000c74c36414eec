// Format: https://clang.llvm.org/docs/ClangOffloadBundler.html. Little endian: the magic string, a count, then for each
// entry its offset, size, and the length and text of its id, "hipv4-amdgcn-amd-amdhsa--gfx942:sramecc+" for example.
#include "hip_runtime/fat_binary.h"

#include <cstdint>
#include <cstring>

namespace gfxsim::hip {
namespace {

constexpr char kMagic[] = "__CLANG_OFFLOAD_BUNDLE__";
constexpr char kCompressedMagic[] = "CCOB";

bool starts_with(const char* data, const char* text) { return std::memcmp(data, text, std::strlen(text)) == 0; }

class Cursor {
 public:
  explicit Cursor(const char* at) : at_(at) {}
  uint64_t number() {
    uint64_t value;
    std::memcpy(&value, at_, sizeof(value));
    at_ += sizeof(value);
    return value;
  }
  std::string text(size_t size) {
    at_ += size;
    return std::string(at_ - size, size);
  }

 private:
  const char* at_;
};

// "gfx942" of "hipv4-amdgcn-amd-amdhsa--gfx942:sramecc+:xnack-"; "" of the host's entry.
std::string arch_of(const std::string& id) {
  const size_t begin = id.rfind("--");
  if (id.rfind("hip", 0) != 0 || begin == std::string::npos) return "";
  return id.substr(begin + 2, id.find(':', begin) - begin - 2);
}

}  // namespace

CodeObject find_code_object(const void* bundle, const std::string& arch, std::string* why) {
  const char* data = static_cast<const char*>(bundle);
  if (starts_with(data, kCompressedMagic)) {
    *why = "the bundle of code objects is compressed: compile with --no-offload-compress";
    return {};
  }
  if (!starts_with(data, kMagic)) {
    *why = "this is no bundle of code objects as clang writes it";
    return {};
  }
  Cursor cursor(data + std::strlen(kMagic));
  std::string archs;
  for (uint64_t left = cursor.number(); left > 0; --left) {
    const uint64_t offset = cursor.number(), size = cursor.number();
    const std::string found = arch_of(cursor.text(cursor.number()));
    if (found == arch) return {data + offset, size};
    if (!found.empty()) archs += " " + found;
  }
  *why = "no code object for " + arch + "; there is:" + (archs.empty() ? " none" : archs);
  return {};
}

}  // namespace gfxsim::hip
