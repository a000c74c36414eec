/* portattn C API: status codes, dtypes, devices, tensors and the enums shared by every entry point.
 *
 * Enum values equal TransformerEngine's where the concept exists there, so that code which stores or
 * transmits them keeps working. Nothing here names a vendor; the header is plain C11.
 */
#ifndef PORTATTN_TYPES_H_
#define PORTATTN_TYPES_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define NVTE_API
#else
#define NVTE_API __attribute__((visibility("default")))
#endif

/* In C++ every int is a value of an enum of the API, as in C, so that a wrong one can be refused. */
#ifdef __cplusplus
#define NVTE_AS_INT : int
#else
#define NVTE_AS_INT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a call returns. On anything but NVTE_SUCCESS nothing was launched, and nvte_get_last_error()
 * holds one sentence: what was given, what is allowed, what to change. */
typedef enum NVTEStatus NVTE_AS_INT {
  NVTE_SUCCESS = 0,
  NVTE_INVALID_ARGUMENT = 1,    /* null, misaligned, wrong dtype, shape, range or an inconsistent pair */
  NVTE_NOT_SUPPORTED = 2,       /* every backend refused; the text holds each one's reasons */
  NVTE_WORKSPACE_TOO_SMALL = 3, /* the workspace is smaller than nvte_fused_attn_workspace_size() said */
  NVTE_DEVICE_ERROR = 4,        /* the device runtime reported an error at launch */
  NVTE_NOT_BUILT = 5,           /* no library for this device could be loaded; the text says why */
  NVTE_INTERNAL_ERROR = 6       /* a bug in portattn (an exception was caught at the boundary) */
} NVTEStatus;

/* Text of the last failure on the calling thread; "" if the last call succeeded. Never NULL. Valid until the
 * next portattn call on this thread. */
NVTE_API const char* nvte_get_last_error(void);

/* "0.1.0": version of the loaded library. */
NVTE_API const char* nvte_version(void);

typedef enum NVTEDType NVTE_AS_INT {
  kNVTEByte = 0,
  kNVTEInt16 = 1,
  kNVTEInt32 = 2,
  kNVTEInt64 = 3,
  kNVTEFloat32 = 4,
  kNVTEFloat16 = 5,
  kNVTEBFloat16 = 6,
  kNVTEFloat64 = 64 /* portattn only: accepted by the unfused backend, for gradient checks */
} NVTEDType;

/* Where a tensor lives and where its kernel runs. */
typedef enum NVTEDeviceType NVTE_AS_INT {
  NVTE_DEVICE_HOST = 0,
  NVTE_DEVICE_CUDA = 1,
  NVTE_DEVICE_HIP = 2
} NVTEDeviceType;

/* What a frontend passes a tensor in the CPU's memory as: NVTE_DEVICE_HOST, or with PORTATTN_HIP_SIM=1, where the
 * simulated GPU works on that memory, NVTE_DEVICE_HIP. */
NVTE_API NVTEDeviceType nvte_cpu_device_type(void);

/* Order of a tensor's dimensions: b batch, s position, h head, d head dim, t packed tokens. The *memory* order
 * is what the strides say, so interleaved and packed QKV buffers need no layout of their own. */
typedef enum NVTE_QKV_Format NVTE_AS_INT { NVTE_SBHD = 0, NVTE_BSHD = 1, NVTE_THD = 2, NVTE_BHSD = 7 } NVTE_QKV_Format;

typedef enum NVTE_Bias_Type NVTE_AS_INT {
  NVTE_NO_BIAS = 0,
  NVTE_PRE_SCALE_BIAS = 1,  /* scale * (q.k + bias) */
  NVTE_POST_SCALE_BIAS = 2, /* scale * q.k + bias */
  NVTE_ALIBI = 3            /* scale * q.k - slope * |j - i - offset| */
} NVTE_Bias_Type;

/* "top left" masks align the diagonal with the first query and key of a sequence, "bottom right" ones with the
 * last of each: query i sees key j <= i + (seqlen_kv - seqlen_q). A "padding" mask takes each sequence's lengths
 * from cu_seqlens. */
typedef enum NVTE_Mask_Type NVTE_AS_INT {
  NVTE_NO_MASK = 0,
  NVTE_PADDING_MASK = 1,
  NVTE_CAUSAL_MASK = 2,
  NVTE_PADDING_CAUSAL_MASK = 3,
  NVTE_CAUSAL_BOTTOM_RIGHT_MASK = 4,
  NVTE_PADDING_CAUSAL_BOTTOM_RIGHT_MASK = 5,
  NVTE_ARBITRARY_MASK = 64 /* portattn only: a byte tensor, nonzero = masked out */
} NVTE_Mask_Type;

typedef enum NVTE_Softmax_Type NVTE_AS_INT {
  NVTE_VANILLA_SOFTMAX = 0,
  NVTE_OFF_BY_ONE_SOFTMAX = 1, /* denominator + 1 */
  NVTE_LEARNABLE_SOFTMAX = 2   /* denominator + exp(softmax_offset[h]) */
} NVTE_Softmax_Type;

/* Rows of the backend table, in no order of preference. */
typedef enum NVTE_Fused_Attn_Backend NVTE_AS_INT {
  NVTE_No_Backend = -1,
  NVTE_Backend_Fused_Varlen = 64,
  NVTE_Backend_Small_Seq = 65,
  NVTE_Backend_Unfused = 66,
  NVTE_Backend_Score_Mod_JIT = 67
} NVTE_Fused_Attn_Backend;

#define NVTE_MAX_DIMS 5

/* A view of memory that the caller owns. struct_size is sizeof(NVTETensor). Strides are in elements and may be
 * anything for a dimension of size 1; the last dimension of q, k, v, o and their gradients has stride 1.
 * data may be NULL where a function says that only shapes are used. */
typedef struct NVTETensor {
  size_t struct_size;
  void* data;
  NVTEDType dtype;
  int32_t ndim;
  int64_t shape[NVTE_MAX_DIMS];
  int64_t strides[NVTE_MAX_DIMS];
  NVTEDeviceType device_type;
  int32_t device_index; /* 0 for the host */
} NVTETensor;

#ifdef __cplusplus
}
#endif

#endif /* PORTATTN_TYPES_H_ */
