// portattn/types.h: last error, version, device of CPU tensors.
#include "portattn/types.h"

#include "core/env.h"
#include "core/status.h"

extern "C" {

const char* nvte_get_last_error(void) { return portattn::last_error(); }

const char* nvte_version(void) { return PORTATTN_VERSION; }

NVTEDeviceType nvte_cpu_device_type(void) { return portattn::env().simulate_hip ? NVTE_DEVICE_HIP : NVTE_DEVICE_HOST; }

}  // extern "C"
