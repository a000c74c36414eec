// Reads the bundle in which clang puts code objects for several architectures into a host object.
#pragma once

#include <cstddef>
#include <string>

namespace gfxsim::hip {

struct CodeObject {
  const void* data = nullptr;
  size_t size = 0;
};

// The code object of `bundle` for `arch` ("gfx942"). Without one, `why` says what the bundle holds instead.
CodeObject find_code_object(const void* bundle, const std::string& arch, std::string* why);

}  // namespace gfxsim::hip
