// portattn/types.h: last error, version.
#include "portattn/types.h"

#include "core/status.h"

extern "C" {

const char* nvte_get_last_error(void) { return portattn::last_error(); }

const char* nvte_version(void) { return PORTATTN_VERSION; }

}  // extern "C"
