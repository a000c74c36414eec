// printf into a std::string.
#include "core/text.h"

#include <cstdio>

namespace portattn {

std::string format_text_v(const char* format, va_list arguments) {
  va_list measured;
  va_copy(measured, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, measured);
  va_end(measured);
  if (length <= 0) return std::string();
  std::string text(static_cast<size_t>(length), '\0');
  std::vsnprintf(&text[0], text.size() + 1, format, arguments);
  return text;
}

std::string format_text(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string text = format_text_v(format, arguments);
  va_end(arguments);
  return text;
}

}  // namespace portattn
