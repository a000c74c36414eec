// printf into a std::string, for the texts of reasons, logs and explanations.
#pragma once

#include <cstdarg>
#include <string>

namespace portattn {

[[gnu::format(printf, 1, 2)]] std::string format_text(const char* format, ...);
std::string format_text_v(const char* format, va_list arguments);

}  // namespace portattn
