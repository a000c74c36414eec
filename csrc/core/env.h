// The environment of the process, read once. The only reader of environment variables in the C++ code; every variable
// is described in docs/envvars.md.
#pragma once

namespace portattn {

enum class LogLevel { kNone = 0, kFallbacks = 1, kChoices = 2, kCalls = 3 };

struct Env {
  LogLevel log_level = LogLevel::kFallbacks;  // NVTE_LOG_FUSED_ATTN_CONFIG
  const char* host_isa = nullptr;             // PORTATTN_HOST_ISA; null = the best that the CPU and the build have
  bool simulate_hip = false;                  // PORTATTN_HIP_SIM
  bool debug = false;                         // PORTATTN_DEBUG
};

const Env& env();

}  // namespace portattn
