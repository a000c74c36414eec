// AttnParams of one sequence with contiguous tensors, as the kernels take it.
#include "attn/params.h"

#include <cstring>

using namespace portattn;

struct Problem {
  void *q, *k, *v, *o, *lse, *d_o, *dk, *dv, *delta, *dq_accum;
  int32_t seqlen_q, seqlen_kv, num_heads_q, num_heads_kv, head_dim, causal;
};

static TensorView view(void* data, int64_t seqlen, int64_t heads, int64_t head_dim) {
  return TensorView{data, seqlen * heads * head_dim, heads * head_dim, head_dim};
}

extern "C" int attn_params_bytes() { return sizeof(AttnParams); }

extern "C" void attn_params(const Problem* in, void* out) {
  const int64_t sq = in->seqlen_q, skv = in->seqlen_kv, h = in->num_heads_q, h_kv = in->num_heads_kv, d = in->head_dim;
  AttnParams p;
  p.q = view(in->q, sq, h, d);
  p.k = view(in->k, skv, h_kv, d);
  p.v = view(in->v, skv, h_kv, d);
  p.o = view(in->o, sq, h, d);
  p.lse = view(in->lse, sq, h, 1);
  p.d_o = view(in->d_o, sq, h, d);
  p.dk = view(in->dk, skv, h_kv, d);
  p.dv = view(in->dv, skv, h_kv, d);
  p.delta = view(in->delta, sq, h, 1);
  p.dq_accum.data = static_cast<float*>(in->dq_accum);
  p.batch = 1;
  p.q_side.seqlen = sq;
  p.kv_side.seqlen = skv;
  p.num_heads_q = in->num_heads_q;
  p.num_heads_kv = in->num_heads_kv;
  p.head_dim_qk = p.head_dim_v = in->head_dim;
  p.window_right = in->causal ? 0 : -1;
  p.attn_scale = 0.125f;
  memcpy(out, &p, sizeof(p));
}
