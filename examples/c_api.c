/* The C API on a packed batch: three sequences of different lengths, one after the other, causal attention, forward
 * and backward on the CPU. The forward is compared with three plain loops.
 *
 *   cc -std=c11 -I csrc/include examples/c_api.c -L build/host/lib -lportattn -Wl,-rpath,build/host/lib -lm
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "portattn/portattn.h"

enum { kBatch = 3, kTokens = 15, kHeadsQ = 4, kHeadsKv = 2, kDim = 32 };
static const int32_t kStarts[kBatch + 1] = {0, 5, 6, 15};

static void check(NVTEStatus status) {
  if (status == NVTE_SUCCESS) return;
  fprintf(stderr, "status %d: %s\n", (int)status, nvte_get_last_error());
  exit(1);
}

/* A contiguous tensor on the host. */
static NVTETensor tensor(void* data, NVTEDType dtype, int ndim, const int64_t* shape) {
  NVTETensor t;
  memset(&t, 0, sizeof(t));
  t.struct_size = sizeof(t);
  t.data = data;
  t.dtype = dtype;
  t.ndim = ndim;
  t.device_type = NVTE_DEVICE_HOST;
  int64_t stride = 1;
  for (int i = ndim - 1; i >= 0; --i) {
    t.shape[i] = shape[i];
    t.strides[i] = stride;
    stride *= shape[i];
  }
  return t;
}

/* A tensor with memory of its own, 256-byte aligned, filled with numbers between -1 and 1. */
static NVTETensor make(NVTEDType dtype, int ndim, int64_t a, int64_t b, int64_t c) {
  const int64_t shape[3] = {a, b, c};
  size_t count = 1;
  for (int i = 0; i < ndim; ++i) count *= (size_t)shape[i];
  const size_t bytes = count * (dtype == kNVTEByte ? 1 : sizeof(float));
  void* data = aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (data == NULL) exit(1);
  if (dtype == kNVTEFloat32) {
    for (size_t i = 0; i < count; ++i) ((float*)data)[i] = (float)rand() / (float)RAND_MAX * 2 - 1;
  }
  return tensor(data, dtype, ndim, shape);
}

static NVTEFusedAttnConfig make_config(void) {
  const struct {
    NVTEFusedAttnAttr attr;
    int64_t value;
  } values[] = {
      {NVTE_ATTR_DTYPE, kNVTEFloat32},
      {NVTE_ATTR_Q_FORMAT, NVTE_THD},
      {NVTE_ATTR_KV_FORMAT, NVTE_THD},
      {NVTE_ATTR_BATCH_SIZE, kBatch},
      {NVTE_ATTR_NUM_HEADS_Q, kHeadsQ},
      {NVTE_ATTR_NUM_HEADS_KV, kHeadsKv},
      {NVTE_ATTR_HEAD_DIM_QK, kDim},
      {NVTE_ATTR_HEAD_DIM_V, kDim},
      {NVTE_ATTR_MAX_SEQLEN_Q, 0},
      {NVTE_ATTR_MAX_SEQLEN_KV, 0},
      {NVTE_ATTR_TOTAL_TOKENS_Q, kTokens},
      {NVTE_ATTR_TOTAL_TOKENS_KV, kTokens},
      {NVTE_ATTR_MASK_TYPE, NVTE_PADDING_CAUSAL_MASK},
      {NVTE_ATTR_IS_TRAINING, 1},
  };
  NVTEFusedAttnConfig config;
  check(nvte_fused_attn_config_create(&config));
  for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); ++i) {
    check(nvte_fused_attn_config_set_int(config, values[i].attr, values[i].value));
  }
  return config;
}

static NVTETensor make_workspace(NVTEFusedAttnConfig config, NVTEDirection direction) {
  size_t bytes;
  check(nvte_fused_attn_workspace_size(config, direction, &bytes));
  return make(kNVTEByte, 1, (int64_t)bytes, 1, 1);
}

/* o of one query row by definition: softmax(q . k / sqrt(d)) . v over keys [first, row]. */
static void reference_row(const float* q, const float* k, const float* v, int first, int row, int head, float* o) {
  const int kv_head = head / (kHeadsQ / kHeadsKv);
  float sum = 0;
  memset(o, 0, kDim * sizeof(float));
  for (int key = first; key <= row; ++key) {
    const float* k_row = k + (key * kHeadsKv + kv_head) * kDim;
    const float* v_row = v + (key * kHeadsKv + kv_head) * kDim;
    float score = 0;
    for (int d = 0; d < kDim; ++d) score += q[(row * kHeadsQ + head) * kDim + d] * k_row[d];
    const float p = expf(score / sqrtf(kDim));
    sum += p;
    for (int d = 0; d < kDim; ++d) o[d] += p * v_row[d];
  }
  for (int d = 0; d < kDim; ++d) o[d] /= sum;
}

static float max_error(const NVTETensor* q, const NVTETensor* k, const NVTETensor* v, const NVTETensor* o) {
  float worst = 0, expected[kDim];
  for (int seq = 0; seq < kBatch; ++seq) {
    for (int row = kStarts[seq]; row < kStarts[seq + 1]; ++row) {
      for (int head = 0; head < kHeadsQ; ++head) {
        reference_row(q->data, k->data, v->data, kStarts[seq], row, head, expected);
        const float* actual = (const float*)o->data + (row * kHeadsQ + head) * kDim;
        for (int d = 0; d < kDim; ++d) worst = fmaxf(worst, fabsf(actual[d] - expected[d]));
      }
    }
  }
  return worst;
}

int main(void) {
  NVTEFusedAttnConfig config = make_config();
  char text[4096];
  check(nvte_explain_fused_attn_backend(config, text, sizeof(text), NULL));
  printf("portattn %s\n%s\n", nvte_version(), text);

  NVTETensor q = make(kNVTEFloat32, 3, kTokens, kHeadsQ, kDim), k = make(kNVTEFloat32, 3, kTokens, kHeadsKv, kDim);
  NVTETensor v = make(kNVTEFloat32, 3, kTokens, kHeadsKv, kDim), o = make(kNVTEFloat32, 3, kTokens, kHeadsQ, kDim);
  NVTETensor lse = make(kNVTEFloat32, 2, kTokens, kHeadsQ, 1);
  const int64_t starts_shape[1] = {kBatch + 1};
  NVTETensor cu_seqlens = tensor((void*)kStarts, kNVTEInt32, 1, starts_shape);

  NVTEFusedAttnInputs inputs = {.struct_size = sizeof(inputs),
                                .q = &q,
                                .k = &k,
                                .v = &v,
                                .cu_seqlens_q = &cu_seqlens,
                                .cu_seqlens_kv = &cu_seqlens};
  NVTEFusedAttnOutputs outputs = {.struct_size = sizeof(outputs), .o = &o, .lse = &lse};
  NVTETensor workspace = make_workspace(config, NVTE_FORWARD);
  check(nvte_fused_attn_fwd(config, &inputs, &outputs, &workspace, NULL));
  const float error = max_error(&q, &k, &v, &o);
  printf("forward: max error %.2g\n", error);

  NVTETensor d_o = make(kNVTEFloat32, 3, kTokens, kHeadsQ, kDim), dq = make(kNVTEFloat32, 3, kTokens, kHeadsQ, kDim);
  NVTETensor dk = make(kNVTEFloat32, 3, kTokens, kHeadsKv, kDim), dv = make(kNVTEFloat32, 3, kTokens, kHeadsKv, kDim);
  NVTEFusedAttnGradInputs grad_inputs = {.struct_size = sizeof(grad_inputs), .o = &o, .lse = &lse, .d_o = &d_o};
  NVTEFusedAttnGradOutputs grad_outputs = {.struct_size = sizeof(grad_outputs), .dq = &dq, .dk = &dk, .dv = &dv};
  NVTETensor grad_workspace = make_workspace(config, NVTE_BACKWARD);
  check(nvte_fused_attn_bwd(config, &inputs, &grad_inputs, &grad_outputs, &grad_workspace, NULL));

  /* The second sequence has one token: its softmax is 1, so its scores have no gradient. */
  printf("backward: dq of a sequence of one token %.2g\n", ((float*)dq.data)[kStarts[1] * kHeadsQ * kDim]);

  NVTETensor* owned[] = {&q, &k, &v, &o, &lse, &d_o, &dq, &dk, &dv, &workspace, &grad_workspace};
  for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); ++i) free(owned[i]->data);
  check(nvte_fused_attn_config_destroy(config));
  return error < 1e-5f ? 0 : 1;
}
