// Lines on stderr about backend choices, each starting with "portattn: ".
#pragma once

#include <string>

#include "core/env.h"

namespace portattn {

inline bool log_enabled(LogLevel level) { return env().log_level >= level; }

void log_line(const std::string& text);

}  // namespace portattn
