// Status codes with text. A failure is reported once, where it is found: `return fail(NVTE_INVALID_ARGUMENT, "...")`
// stores one sentence for nvte_get_last_error() and hands the code up. Nothing here allocates or throws.
#pragma once

#include "portattn/types.h"

namespace portattn {

// Stores the text of the calling thread's failure and returns `status`.
[[gnu::format(printf, 2, 3)]] NVTEStatus fail(NVTEStatus status, const char* format, ...) noexcept;

void clear_last_error() noexcept;
const char* last_error() noexcept;

}  // namespace portattn

// Returns from the calling function unless `expression` is NVTE_SUCCESS.
#define PA_RETURN_IF_ERROR(expression)               \
  do {                                               \
    const NVTEStatus pa_status = (expression);       \
    if (pa_status != NVTE_SUCCESS) return pa_status; \
  } while (false)
