// Everything that follows from a config before a tensor is seen: device, backend, workspace, and the part of
// AttnParams that calls share. Made once and kept until an attribute changes.
#pragma once

#include "core/backends/table.h"
#include "core/config.h"
#include "core/plugin.h"
#include "core/workspace.h"
#include "cuda/attn/params.h"

namespace portattn {

struct ResolvedConfig {
  Device device;
  const BackendRow* row = nullptr;
  AttnParams params;  // pointers and strides are still to be filled
  WorkspaceLayout forward, backward;

  const WorkspaceLayout& layout(NVTEDirection direction) const {
    return direction == NVTE_FORWARD ? forward : backward;
  }
};

NVTEStatus resolve_config(const AttnConfig& config, ResolvedConfig* resolved);

// What a config says about AttnParams.
AttnParams params_of(const AttnConfig& config);

}  // namespace portattn

// The handle of the C API.
struct NVTEFusedAttnConfigImpl {
  portattn::AttnConfig values;
  portattn::ResolvedConfig resolved;
  bool is_resolved = false;
  // The same with small_seq for its backend, for the functions that ask for it by name.
  portattn::AttnConfig small_seq_values;
  portattn::ResolvedConfig small_seq;
  bool is_small_seq_resolved = false;

  void forget_resolved() { is_resolved = is_small_seq_resolved = false; }
};
