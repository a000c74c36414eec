/* portattn C API: scaled dot product attention, forward and backward, with the backend chosen from the config.
 *
 *   score = scale * q.k (+ bias, ALiBi) -> softcap -> mask -> softmax (+ sink) -> dropout;   o = p . v
 *
 * Shapes, in the order that the config's formats name (BSHD shown; THD is [t, h, d] with cu_seqlens):
 *   q, dq [b, s_q, h, d_qk]     k, dk [b, s_kv, h_kv, d_qk]     v, dv [b, s_kv, h_kv, d_v]     o, do [b, s_q, h, d_v]
 *   lse [b, s_q, h] float32, natural log, sink included; -inf for a row that sees no key and for padding rows
 *
 * Every call is asynchronous on `stream` (a cudaStream_t or hipStream_t; ignored on the host), allocates nothing,
 * never synchronises, reads no device memory on the host, and can be captured in a graph. Rows of o, dq, dk, dv
 * outside every sequence are written 0.
 */
#ifndef PORTATTN_FUSED_ATTN_H_
#define PORTATTN_FUSED_ATTN_H_

#include "portattn/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* struct_size is the size of the struct. A tensor that the config does not ask for must be NULL; one that it asks
 * for must not be. A function takes only what it uses. */
typedef struct NVTEFusedAttnInputs {
  size_t struct_size;
  const NVTETensor* q;
  const NVTETensor* k;
  const NVTETensor* v;
  const NVTETensor* bias; /* PRE/POST_SCALE_BIAS: [BIAS_BATCH, BIAS_HEADS, BIAS_SEQLEN_Q, BIAS_SEQLEN_KV], q's dtype */
  const NVTETensor* softmax_offset; /* LEARNABLE: [h] float32 */
  const NVTETensor* alibi_slopes;   /* ALIBI: [h] or [b, h] float32 */
  const NVTETensor* attention_mask; /* ARBITRARY: byte, broadcastable to [b, h, s_q, s_kv], nonzero = masked out */
  const NVTETensor* cu_seqlens_q;   /* padding masks, thd: int32 [>= b + 1], cumulative valid lengths */
  const NVTETensor* cu_seqlens_kv;
  const NVTETensor* cu_seqlens_q_padded; /* thd, optional: int32 [>= b + 1], where each sequence starts in the buffer */
  const NVTETensor* cu_seqlens_kv_padded;
  const NVTETensor* rng_state; /* dropout while training: int64 [2] = {seed, offset} on the device */
} NVTEFusedAttnInputs;

typedef struct NVTEFusedAttnOutputs {
  size_t struct_size;
  const NVTETensor* o;
  const NVTETensor* lse; /* may be NULL when not IS_TRAINING */
} NVTEFusedAttnOutputs;

typedef struct NVTEFusedAttnGradInputs {
  size_t struct_size;
  const NVTETensor* o;   /* from the forward */
  const NVTETensor* lse; /* from the forward */
  const NVTETensor* d_o; /* gradient of o; any strides with a contiguous last dimension */
} NVTEFusedAttnGradInputs;

typedef struct NVTEFusedAttnGradOutputs {
  size_t struct_size;
  const NVTETensor* dq;
  const NVTETensor* dk;
  const NVTETensor* dv;
  const NVTETensor* dbias;            /* BIAS_GRAD: shape and dtype of bias */
  const NVTETensor* d_softmax_offset; /* LEARNABLE: [h] float32 */
} NVTEFusedAttnGradOutputs;

typedef enum NVTEDirection NVTE_AS_INT { NVTE_FORWARD = 0, NVTE_BACKWARD = 1 } NVTEDirection;

/* Bytes of scratch that a call needs: a pure function of the config. *bytes may be 0. */
NVTE_API NVTEStatus nvte_fused_attn_workspace_size(NVTEFusedAttnConfig config, NVTEDirection direction, size_t* bytes);

/* Forward. workspace: byte tensor [n], 256-byte aligned, n >= workspace size; NULL when the size is 0. */
NVTE_API NVTEStatus nvte_fused_attn_fwd(NVTEFusedAttnConfig config, const NVTEFusedAttnInputs* inputs,
                                        const NVTEFusedAttnOutputs* outputs, const NVTETensor* workspace, void* stream);

/* Backward. `inputs` as given to the forward. Recomputes the probabilities from lse, so the forward may have run in
 * another backend. */
NVTE_API NVTEStatus nvte_fused_attn_bwd(NVTEFusedAttnConfig config, const NVTEFusedAttnInputs* inputs,
                                        const NVTEFusedAttnGradInputs* grad_inputs,
                                        const NVTEFusedAttnGradOutputs* grad_outputs, const NVTETensor* workspace,
                                        void* stream);

/* Which row of the backend table serves the config. NVTE_No_Backend and NVTE_NOT_SUPPORTED when none does. */
NVTE_API NVTEStatus nvte_get_fused_attn_backend(NVTEFusedAttnConfig config, NVTE_Fused_Attn_Backend* backend);

/* The choice in words, one line a row: "fused_varlen: chosen", "fused_varlen: refused: <reason>; <reason>",
 * "unfused: available" (would have served, had no row before it) or "small_seq: not tried: <reason>".
 * Writes at most `capacity` bytes including the final NUL; *length is what the whole text needs without it. */
NVTE_API NVTEStatus nvte_explain_fused_attn_backend(NVTEFusedAttnConfig config, char* text, size_t capacity,
                                                    size_t* length);

/* Static name of a backend: "fused_varlen", "small_seq", "unfused", "score_mod_jit", or "none". */
NVTE_API const char* nvte_fused_attn_backend_name(NVTE_Fused_Attn_Backend backend);

/* One line for each device library, for bug reports: "host: avx512, ..." or "cuda: not loaded: <reason>". Same
 * capacity and length rule as nvte_explain_fused_attn_backend. */
NVTE_API NVTEStatus nvte_describe_devices(char* text, size_t capacity, size_t* length);

#ifdef __cplusplus
}
#endif

#endif /* PORTATTN_FUSED_ATTN_H_ */
