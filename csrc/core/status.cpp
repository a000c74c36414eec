// The last error of each thread, in a fixed buffer: reporting a failure cannot itself fail.
#include "core/status.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace portattn {
namespace {

constexpr size_t kMaxErrorChars = 4096;
thread_local char last_error_text[kMaxErrorChars] = "";

// Marks a text that did not fit, so that nobody takes its last word for the end of the sentence.
void mark_truncated() {
  static const char kEllipsis[] = " ...";
  std::memcpy(last_error_text + kMaxErrorChars - sizeof(kEllipsis), kEllipsis, sizeof(kEllipsis));
}

}  // namespace

NVTEStatus fail(NVTEStatus status, const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(last_error_text, kMaxErrorChars, format, arguments);
  va_end(arguments);
  if (length >= static_cast<int>(kMaxErrorChars)) mark_truncated();
  return status;
}

void clear_last_error() noexcept { last_error_text[0] = '\0'; }

const char* last_error() noexcept { return last_error_text; }

}  // namespace portattn
