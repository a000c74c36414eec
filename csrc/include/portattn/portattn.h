/* The whole public C API of portattn. */
#ifndef PORTATTN_PORTATTN_H_
#define PORTATTN_PORTATTN_H_

#include "portattn/config.h"
#include "portattn/fused_attn.h"
#include "portattn/small_seq.h"
#include "portattn/thd.h"
#include "portattn/types.h"

#endif /* PORTATTN_PORTATTN_H_ */
