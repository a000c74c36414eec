// Lines on stderr, written whole so that threads do not mix theirs.
#include "core/log.h"

#include <cstdio>

namespace portattn {

void log_line(const std::string& text) {
  const std::string line = "portattn: " + text + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace portattn
