// Row: attention with a score function given at run time, compiled for it.
#include "core/backends/table.h"

namespace portattn {
namespace {

bool enabled(const AttnConfig&) { return false; }

void refuse(const AttnConfig&, const Device&, Refusal* refusal) {
  refusal->because("not built: this version has no run-time compiled score_mod kernels");
}

}  // namespace

const BackendRow kScoreModJitRow = {NVTE_Backend_Score_Mod_JIT,
                                    "score_mod_jit",
                                    "a score function given at run time",
                                    0,
                                    "backend names it",
                                    enabled,
                                    refuse,
                                    nullptr,
                                    nullptr,
                                    nullptr};

}  // namespace portattn
