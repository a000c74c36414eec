/* portattn C API: NVTEFusedAttnConfig, everything about an attention problem that is known on the host.
 *
 * A config is an opaque handle with typed attributes, so that it can grow without breaking the ABI. It holds no
 * pointer and no sequence length: lengths live on the device, the config holds *capacities* (upper bounds).
 * A config may be used by one thread at a time; different configs are independent.
 */
#ifndef PORTATTN_CONFIG_H_
#define PORTATTN_CONFIG_H_

#include "portattn/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct NVTEFusedAttnConfigImpl* NVTEFusedAttnConfig;

/* Attribute, type, default, meaning. "required" attributes have no default. */
typedef enum NVTEFusedAttnAttr NVTE_AS_INT {
  /* -- what is computed -------------------------------------------------------------------------------- */
  NVTE_ATTR_DTYPE = 0,            /* NVTEDType, required: dtype of q, k, v, o and their gradients */
  NVTE_ATTR_Q_FORMAT = 1,         /* NVTE_QKV_Format, default BSHD: order of q, o, dq, do, lse */
  NVTE_ATTR_KV_FORMAT = 2,        /* NVTE_QKV_Format, default BSHD: order of k, v, dk, dv */
  NVTE_ATTR_BATCH_SIZE = 3,       /* int, required: sequences b (cu_seqlens has at least b + 1 entries) */
  NVTE_ATTR_NUM_HEADS_Q = 4,      /* int, required */
  NVTE_ATTR_NUM_HEADS_KV = 5,     /* int, required: divides NUM_HEADS_Q */
  NVTE_ATTR_HEAD_DIM_QK = 6,      /* int, required */
  NVTE_ATTR_HEAD_DIM_V = 7,       /* int, required */
  NVTE_ATTR_MAX_SEQLEN_Q = 8,     /* int, required: s_q of bshd, sbhd, bhsd; for thd a hint, 0 = unknown */
  NVTE_ATTR_MAX_SEQLEN_KV = 9,    /* int, required: likewise for k and v */
  NVTE_ATTR_TOTAL_TOKENS_Q = 10,  /* int, required for thd: rows t of q's buffer */
  NVTE_ATTR_TOTAL_TOKENS_KV = 11, /* int, required for thd: rows t of k's and v's buffers */
  /* -- which keys a query sees ------------------------------------------------------------------------- */
  NVTE_ATTR_MASK_TYPE = 16,             /* NVTE_Mask_Type, default NO_MASK */
  NVTE_ATTR_WINDOW_LEFT = 17,           /* int, default -1 = unbounded: keys up to this many to the left, inclusive */
  NVTE_ATTR_WINDOW_RIGHT = 18,          /* int, default -1 = unbounded; causal masks act as 0 */
  NVTE_ATTR_BOTTOM_RIGHT_DIAGONAL = 19, /* 0/1, default -1 = as the mask type says, and top left (0) for masks without
                                           a diagonal: alignment of window, chunk and ALiBi */
  NVTE_ATTR_CHUNK_SIZE = 20, /* int, default 0 = off: query and key must be in the same chunk of C positions */
  /* -- how scores become probabilities ----------------------------------------------------------------- */
  NVTE_ATTR_ATTN_SCALE = 32,     /* float, default 0 = 1/sqrt(HEAD_DIM_QK) */
  NVTE_ATTR_SOFTCAP = 33,        /* float >= 0, default 0 = off: cap * tanh(score / cap) */
  NVTE_ATTR_DROPOUT = 34,        /* float in [0, 1), default 0; applied only when IS_TRAINING */
  NVTE_ATTR_BIAS_TYPE = 35,      /* NVTE_Bias_Type, default NO_BIAS */
  NVTE_ATTR_BIAS_BATCH = 36,     /* int, default 1: 1 or b; bias and dbias are [BIAS_BATCH, BIAS_HEADS, ...] */
  NVTE_ATTR_BIAS_HEADS = 37,     /* int, default 1: 1 or NUM_HEADS_Q */
  NVTE_ATTR_BIAS_SEQLEN_Q = 38,  /* int, default MAX_SEQLEN_Q: 1 or at least every sequence's length */
  NVTE_ATTR_BIAS_SEQLEN_KV = 39, /* int, default MAX_SEQLEN_KV: at least every sequence's length */
  NVTE_ATTR_BIAS_GRAD = 40,      /* 0/1, default 0: the backward writes dbias */
  NVTE_ATTR_SOFTMAX_TYPE = 41,   /* NVTE_Softmax_Type, default VANILLA */
  NVTE_ATTR_ALLOW_TF32 = 42,     /* 0/1, default 0: reserved for tf32 matrix units; fp32 is computed in fp32 */
  /* -- how it is run ----------------------------------------------------------------------------------- */
  NVTE_ATTR_IS_TRAINING = 48,   /* 0/1, default 0: dropout on; the backend must also have a backward */
  NVTE_ATTR_DETERMINISTIC = 49, /* 0/1, default 0: the backward is bitwise reproducible */
  NVTE_ATTR_BACKEND = 50,       /* NVTE_Fused_Attn_Backend, default No_Backend = choose; otherwise only that row */
  NVTE_ATTR_STRICT = 51,        /* 0/1, default 0: a choice that is not the first enabled row is an error */
  NVTE_ATTR_DEVICE_TYPE = 52,   /* NVTEDeviceType, default HOST */
  NVTE_ATTR_DEVICE_INDEX = 53,  /* int, default 0 */
  NVTE_ATTR_MAX_SEGMENT_SEQLEN_Q = 54, /* int, default 0 = unknown: static hint for the small_seq backend */
  NVTE_ATTR_MAX_SEGMENT_SEQLEN_KV = 55 /* int, default 0 = unknown */
} NVTEFusedAttnAttr;

/* Makes a config with every attribute at its default. Errors: NULL config. */
NVTE_API NVTEStatus nvte_fused_attn_config_create(NVTEFusedAttnConfig* config);

/* Frees a config; NULL is fine. */
NVTE_API NVTEStatus nvte_fused_attn_config_destroy(NVTEFusedAttnConfig config);

/* Sets one integer, enum or 0/1 attribute. Errors: NULL config, unknown attribute, an attribute that is a float,
 * a value outside the attribute's own range. Relations between attributes are checked when the config is used. */
NVTE_API NVTEStatus nvte_fused_attn_config_set_int(NVTEFusedAttnConfig config, NVTEFusedAttnAttr attr, int64_t value);

/* Sets one float attribute. Errors as above; NaN and infinity are refused. */
NVTE_API NVTEStatus nvte_fused_attn_config_set_float(NVTEFusedAttnConfig config, NVTEFusedAttnAttr attr, double value);

NVTE_API NVTEStatus nvte_fused_attn_config_get_int(NVTEFusedAttnConfig config, NVTEFusedAttnAttr attr, int64_t* value);
NVTE_API NVTEStatus nvte_fused_attn_config_get_float(NVTEFusedAttnConfig config, NVTEFusedAttnAttr attr, double* value);

#ifdef __cplusplus
}
#endif

#endif /* PORTATTN_CONFIG_H_ */
