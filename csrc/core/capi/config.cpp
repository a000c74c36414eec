// portattn/config.h: making, filling and freeing configs.
#include "portattn/config.h"

#include "core/capi/boundary.h"
#include "core/resolve.h"

using portattn::api_call;
using portattn::check_pointer;

extern "C" {

NVTEStatus nvte_fused_attn_config_create(NVTEFusedAttnConfig* config) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(config, "config"));
    *config = new NVTEFusedAttnConfigImpl;
    return NVTE_SUCCESS;
  });
}

NVTEStatus nvte_fused_attn_config_destroy(NVTEFusedAttnConfig config) {
  return api_call([&] {
    delete config;
    return NVTE_SUCCESS;
  });
}

NVTEStatus nvte_fused_attn_config_set_int(NVTEFusedAttnConfig config, NVTEFusedAttnAttr attr, int64_t value) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(config, "config"));
    PA_RETURN_IF_ERROR(portattn::set_int(&config->values, attr, value));
    config->forget_resolved();
    return NVTE_SUCCESS;
  });
}

NVTEStatus nvte_fused_attn_config_set_float(NVTEFusedAttnConfig config, NVTEFusedAttnAttr attr, double value) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(config, "config"));
    PA_RETURN_IF_ERROR(portattn::set_float(&config->values, attr, value));
    config->forget_resolved();
    return NVTE_SUCCESS;
  });
}

NVTEStatus nvte_fused_attn_config_get_int(NVTEFusedAttnConfig config, NVTEFusedAttnAttr attr, int64_t* value) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(config, "config"));
    PA_RETURN_IF_ERROR(check_pointer(value, "value"));
    return portattn::get_int(config->values, attr, value);
  });
}

NVTEStatus nvte_fused_attn_config_get_float(NVTEFusedAttnConfig config, NVTEFusedAttnAttr attr, double* value) {
  return api_call([&] {
    PA_RETURN_IF_ERROR(check_pointer(config, "config"));
    PA_RETURN_IF_ERROR(check_pointer(value, "value"));
    return portattn::get_float(config->values, attr, value);
  });
}

}  // extern "C"
