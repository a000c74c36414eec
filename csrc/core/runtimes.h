// Vendor runtimes that device libraries leave undefined on purpose, so that they join the one of the process: they must
// be in the global symbol scope before such a library is loaded.
#pragma once

#include <string>

namespace portattn {

// A runtime that is there, or why it is not.
struct Runtime {
  std::string name;     // for people: which one, and where it came from
  std::string failure;  // "" when it is there
};

// OpenMP, for the host libraries.
Runtime provide_openmp();

// HIP, for libportattn_hip.so: the process's own, else ROCm 7's or 6's. With PORTATTN_HIP_SIM=1 the simulator's, out of
// `directory`.
Runtime provide_hip(const std::string& directory);

// What dlerror() says, or a plain sentence where it has nothing.
std::string loader_error();

}  // namespace portattn
