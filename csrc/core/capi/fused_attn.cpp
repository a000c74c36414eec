// portattn/fused_attn.h: choice and explanation of a backend, workspace size, forward and backward.
#include "portattn/fused_attn.h"

#include <algorithm>
#include <cstring>

#include "core/capi/boundary.h"
#include "core/run.h"

namespace portattn {
namespace {

// Resolves the config if an attribute has changed since the last call.
NVTEStatus resolve(NVTEFusedAttnConfig config) {
  PA_RETURN_IF_ERROR(check_pointer(config, "config"));
  if (config->is_resolved) return NVTE_SUCCESS;
  PA_RETURN_IF_ERROR(resolve_config(config->values, &config->resolved));
  config->is_resolved = true;
  return NVTE_SUCCESS;
}

NVTEStatus check_direction(NVTEDirection direction) {
  if (direction == NVTE_FORWARD || direction == NVTE_BACKWARD) return NVTE_SUCCESS;
  return fail(NVTE_INVALID_ARGUMENT, "direction is %d; allowed: 0 (NVTE_FORWARD), 1 (NVTE_BACKWARD)",
              static_cast<int>(direction));
}

std::string explain(const AttnConfig& config) {
  Device device;
  const NVTEStatus found = find_device(static_cast<NVTEDeviceType>(config.device_type), config.device_index, &device);
  const std::string no_device = last_error();
  clear_last_error();
  return explain_backends(config, found == NVTE_SUCCESS ? &device : nullptr, no_device.c_str());
}

}  // namespace

NVTEStatus copy_text(const std::string& source, char* text, size_t capacity, size_t* length) {
  if (text == nullptr && capacity > 0) {
    return fail(NVTE_INVALID_ARGUMENT, "text is NULL, but capacity is %zu: pass a buffer, or capacity 0", capacity);
  }
  if (length != nullptr) {
    PA_RETURN_IF_ERROR(check_pointer(length, "length"));
    *length = source.size();
  }
  if (capacity == 0) return NVTE_SUCCESS;
  const size_t copied = std::min(source.size(), capacity - 1);
  std::memcpy(text, source.data(), copied);
  text[copied] = '\0';
  return NVTE_SUCCESS;
}

}  // namespace portattn

using portattn::api_call;
using portattn::check_pointer;

extern "C" {

NVTEStatus nvte_fused_attn_workspace_size(NVTEFusedAttnConfig config, NVTEDirection direction, size_t* bytes) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(bytes, "bytes"));
    PA_RETURN_IF_ERROR(portattn::check_direction(direction));
    PA_RETURN_IF_ERROR(portattn::resolve(config));
    *bytes = static_cast<size_t>(config->resolved.layout(direction).total_bytes);
    return NVTE_SUCCESS;
  });
}

NVTEStatus nvte_fused_attn_fwd(NVTEFusedAttnConfig config, const NVTEFusedAttnInputs* inputs,
                               const NVTEFusedAttnOutputs* outputs, const NVTETensor* workspace, void* stream) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(portattn::resolve(config));
    return portattn::run_forward(config->values, config->resolved, inputs, outputs, workspace, stream);
  });
}

NVTEStatus nvte_fused_attn_bwd(NVTEFusedAttnConfig config, const NVTEFusedAttnInputs* inputs,
                               const NVTEFusedAttnGradInputs* grad_inputs, const NVTEFusedAttnGradOutputs* grad_outputs,
                               const NVTETensor* workspace, void* stream) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(portattn::resolve(config));
    return portattn::run_backward(config->values, config->resolved, inputs, grad_inputs, grad_outputs, workspace,
                                  stream);
  });
}

NVTEStatus nvte_get_fused_attn_backend(NVTEFusedAttnConfig config, NVTE_Fused_Attn_Backend* backend) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(backend, "backend"));
    *backend = NVTE_No_Backend;
    PA_RETURN_IF_ERROR(portattn::resolve(config));
    *backend = config->resolved.row->id;
    return NVTE_SUCCESS;
  });
}

NVTEStatus nvte_explain_fused_attn_backend(NVTEFusedAttnConfig config, char* text, size_t capacity, size_t* length) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(config, "config"));
    PA_RETURN_IF_ERROR(portattn::check_config(config->values));
    return portattn::copy_text(portattn::explain(config->values), text, capacity, length);
  });
}

const char* nvte_fused_attn_backend_name(NVTE_Fused_Attn_Backend backend) {
  for (const portattn::BackendRow* row : portattn::kBackendRows) {
    if (row->id == backend) return row->name;
  }
  return "none";
}

NVTEStatus nvte_describe_devices(char* text, size_t capacity, size_t* length) {
  return api_call([&] { return portattn::copy_text(portattn::describe_devices(), text, capacity, length); });
}

}  // extern "C"
