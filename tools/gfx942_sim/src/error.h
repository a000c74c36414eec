// How everything below the C interface fails: an exception that carries a status and says what was wrong.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "gfx942_sim.h"

namespace gfxsim {

class Error : public std::runtime_error {
 public:
  Error(gfxsim_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  gfxsim_status status() const { return status_; }

 private:
  gfxsim_status status_;
};

inline std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));
inline std::string format(const char* pattern, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, pattern);
  vsnprintf(text, sizeof(text), pattern, arguments);
  va_end(arguments);
  return text;
}

}  // namespace gfxsim
