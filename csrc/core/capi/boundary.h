// The C boundary: nothing is thrown across it, and the last error starts empty with every call.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "core/status.h"
#include "portattn/types.h"

namespace portattn {

// Runs `body` (returning NVTEStatus) as one API call.
template <class Body>
NVTEStatus api_call(Body&& body) noexcept {
  clear_last_error();
  try {
    return body();
  } catch (const std::exception& error) {
    return fail(NVTE_INTERNAL_ERROR, "portattn failed inside: %s; please report it", error.what());
  } catch (...) {
    return fail(NVTE_INTERNAL_ERROR, "portattn failed inside with an unknown exception; please report it");
  }
}

template <class T>
NVTEStatus check_pointer(const T* pointer, const char* name) {
  if (pointer == nullptr) return fail(NVTE_INVALID_ARGUMENT, "%s is NULL: pass a pointer", name);
  if (reinterpret_cast<uintptr_t>(pointer) % alignof(T) == 0) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT, "%s points to %p, which is not aligned for its type: pass one that is", name,
              static_cast<const void*>(pointer));
}

// Copies as much of `source` as fits, NUL included; *length is that of the whole text.
NVTEStatus copy_text(const std::string& source, char* text, size_t capacity, size_t* length);

}  // namespace portattn
