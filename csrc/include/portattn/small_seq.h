/* portattn C API: attention of very many short segments, asked for by name.
 *
 * The same as nvte_fused_attn_fwd/_bwd of a config whose BACKEND is NVTE_Backend_Small_Seq, without the arguments that
 * this backend never uses. A config that promises short segments (MAX_SEGMENT_SEQLEN_Q and _KV, up to 32 each) reaches
 * it through nvte_fused_attn_fwd too. The promise picks a kernel; a longer segment is computed all the same, slowly.
 *
 * BACKEND of the config must be NVTE_No_Backend or NVTE_Backend_Small_Seq. What the backend does not take is
 * NVTE_NOT_SUPPORTED with the reasons.
 */
#ifndef PORTATTN_SMALL_SEQ_H_
#define PORTATTN_SMALL_SEQ_H_

#include "portattn/fused_attn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Shapes and rules are those of NVTEFusedAttnInputs; struct_size is the size of the struct. */
typedef struct NVTESmallSeqInputs {
  size_t struct_size;
  const NVTETensor* q;
  const NVTETensor* k;
  const NVTETensor* v;
  const NVTETensor* cu_seqlens_q;
  const NVTETensor* cu_seqlens_kv;
  const NVTETensor* cu_seqlens_q_padded;
  const NVTETensor* cu_seqlens_kv_padded;
} NVTESmallSeqInputs;

/* *supported: 1 if the backend takes the config, 0 if not; nvte_explain_fused_attn_backend() says why not. */
NVTE_API NVTEStatus nvte_is_small_seq_attn_supported(NVTEFusedAttnConfig config, int32_t* supported);

/* Bytes of scratch of the forward and of the backward: the plan of packed segments, 0 for other formats. */
NVTE_API NVTEStatus nvte_fused_attn_small_seq_fwd_workspace_size(NVTEFusedAttnConfig config, size_t* bytes);
NVTE_API NVTEStatus nvte_fused_attn_small_seq_bwd_workspace_size(NVTEFusedAttnConfig config, size_t* bytes);

NVTE_API NVTEStatus nvte_fused_attn_small_seq_fwd(NVTEFusedAttnConfig config, const NVTESmallSeqInputs* inputs,
                                                  const NVTEFusedAttnOutputs* outputs, const NVTETensor* workspace,
                                                  void* stream);

/* dbias and d_softmax_offset of grad_outputs are NULL. o is read only for segments longer than promised. */
NVTE_API NVTEStatus nvte_fused_attn_small_seq_bwd(NVTEFusedAttnConfig config, const NVTESmallSeqInputs* inputs,
                                                  const NVTEFusedAttnGradInputs* grad_inputs,
                                                  const NVTEFusedAttnGradOutputs* grad_outputs,
                                                  const NVTETensor* workspace, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* PORTATTN_SMALL_SEQ_H_ */
