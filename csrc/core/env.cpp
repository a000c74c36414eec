// Reads the environment. A value that is not understood is reported on stderr and the default kept.
#include "core/env.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace portattn {
namespace {

LogLevel read_log_level() {
  const char* const kName = "NVTE_LOG_FUSED_ATTN_CONFIG";
  const char* value = std::getenv(kName);
  if (value == nullptr || *value == '\0') return LogLevel::kFallbacks;
  if (std::strlen(value) == 1 && *value >= '0' && *value <= '3') return static_cast<LogLevel>(*value - '0');
  std::fprintf(stderr, "portattn: %s is '%s'; allowed are 0, 1, 2 and 3; using 1\n", kName, value);
  return LogLevel::kFallbacks;
}

const char* read_host_isa() {
  const char* value = std::getenv("PORTATTN_HOST_ISA");
  return value == nullptr || *value == '\0' ? nullptr : value;
}

bool read_switch(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0' || std::strcmp(value, "0") == 0) return false;
  if (std::strcmp(value, "1") == 0) return true;
  std::fprintf(stderr, "portattn: %s is '%s'; allowed are 0 and 1; using 0\n", name, value);
  return false;
}

}  // namespace

const Env& env() {
  static const Env kEnv{read_log_level(), read_host_isa(), read_switch("PORTATTN_HIP_SIM"),
                        read_switch("PORTATTN_DEBUG")};
  return kEnv;
}

}  // namespace portattn
