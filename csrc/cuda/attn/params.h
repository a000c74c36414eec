// Run-time facts of one attention problem, as every kernel receives them. Plain C++: seen by csrc/core, by the host
// launchers and by device code. Pointers are device pointers; strides and lengths are in elements and tokens.
//
// Shapes: q [b, s_q, h, d_qk], k [b, s_kv, h_kv, d_qk], v [b, s_kv, h_kv, d_v], o [b, s_q, h, d_v], lse [b, s_q, h];
// thd tensors are [t, ...] with batch stride 0 and starts from the plan.
#pragma once

#include <cstdint>

namespace portattn {

enum class DType : int32_t { kFloat32 = 4, kFloat16 = 5, kBFloat16 = 6, kFloat64 = 64 };

// A [batch, token, head, dim] tensor; dim has stride 1.
struct TensorView {
  void* data = nullptr;
  int64_t batch_stride = 0;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};

// A [batch, head, query, key] tensor (bias, its gradient, a mask). A broadcast dimension has stride 0.
struct ScoreView {
  void* data = nullptr;
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 0;
};

// Where one sequence of a thd buffer lies. Made on the device by thd/seq_plan from cu_seqlens of any content:
// spans never overlap and never leave the buffer. Rows [start + len, start + slot_len) are padding, to be zeroed.
struct SeqSpan {
  int32_t start;
  int32_t len;
  int32_t slot_len;
};

// One block of work: rows [block * kBlock, (block + 1) * kBlock) of the slot of sequence `seq`. seq == batch is the
// gap before the first sequence: it has a slot and no length.
struct TileRef {
  int32_t seq;
  int32_t block;
};

// The device-side plan of one thd side (queries or keys); all null for bshd, sbhd and bhsd.
struct SidePlan {
  const SeqSpan* spans = nullptr;     // [batch + 1]
  const TileRef* tiles = nullptr;     // [tile_capacity]
  const int32_t* num_tiles = nullptr; // [1], <= tile_capacity
};

// The sequences of one side (queries or keys).
struct SeqSide {
  bool is_thd = false;
  int64_t seqlen = 0;                   // s of the buffer: per sequence, or all tokens t for thd
  const int32_t* cu_seqlens = nullptr;  // [batch + 1] valid lengths of bshd under a padding mask; null = full
  SidePlan plan;                        // thd only
};

enum class BiasKind : int32_t { kNone = 0, kPreScale = 1, kPostScale = 2, kAlibi = 3 };

struct AttnParams {
  // -- forward ---------------------------------------------------------------------------------------------
  TensorView q, k, v, o;
  TensorView lse;  // float; head_dim 1: element (b, token, h)
  // -- backward --------------------------------------------------------------------------------------------
  TensorView d_o, dq, dk, dv;
  TensorView delta;      // float, workspace: rowsum(do * o), strides as lse
  TensorView dq_accum;   // float, workspace [b, s_q, h, d_qk]: null when dq is written directly
  // -- sequences -------------------------------------------------------------------------------------------
  int32_t batch = 0;
  SeqSide q_side, kv_side;
  // -- heads -----------------------------------------------------------------------------------------------
  int32_t num_heads_q = 0;
  int32_t num_heads_kv = 0;
  int32_t head_dim_qk = 0;
  int32_t head_dim_v = 0;
  // -- which keys a query sees: see attn/visibility.cuh -------------------------------------------------------
  bool causal = false;        // j <= i + offset
  bool bottom_right = false;  // offset = seqlen_kv - seqlen_q, else 0
  int64_t window_left = -1;   // j >= i + offset - window_left; -1 unbounded
  int64_t window_right = -1;
  int64_t chunk_size = 0;     // 0 off
  ScoreView mask;             // uint8, nonzero = masked out; null unless the mask is arbitrary
  // -- scores ----------------------------------------------------------------------------------------------
  float attn_scale = 1.f;
  float softcap = 0.f;  // 0 off
  BiasKind bias_kind = BiasKind::kNone;
  ScoreView bias;   // of q's dtype
  ScoreView dbias;  // null unless its gradient is wanted
  int32_t dbias_shape[4] = {0, 0, 0, 0};     // [BIAS_BATCH, BIAS_HEADS, BIAS_SEQLEN_Q, BIAS_SEQLEN_KV]
  const float* alibi_slopes = nullptr;       // [h] or [b, h]
  int64_t alibi_batch_stride = 0;
  bool has_sink = false;                     // off-by-one: sink 0 (softmax_offset null); learnable: softmax_offset[h]
  const float* softmax_offset = nullptr;
  float* d_softmax_offset = nullptr;         // [h]
  // -- dropout: see device/philox.cuh -----------------------------------------------------------------------
  float dropout = 0.f;                  // 0 off
  const uint64_t* rng_state = nullptr;  // {seed, offset}
  // -- how ----------------------------------------------------------------------------------------------------
  bool deterministic = false;
};

}  // namespace portattn
