// Run-time facts of one attention problem, as every kernel receives them. Plain C++: seen by csrc/core, by the host
// launchers and by device code. Pointers are device pointers; strides and lengths are in elements and tokens.
//
// Shapes: q [b, s_q, h, d_qk], k [b, s_kv, h_kv, d_qk], v [b, s_kv, h_kv, d_v], o [b, s_q, h, d_v], lse [b, s_q, h];
// thd tensors are [t, ...] with batch stride 0 and starts from the plan.
#pragma once

#include <cstdint>

namespace portattn {

enum class DType : int32_t { kFloat32 = 4, kFloat16 = 5, kBFloat16 = 6, kFloat64 = 64 };

// Longest sequence, and largest window or chunk, that device code computes with. A longer sequence is refused (or, in a
// thd buffer, cut); a larger window or chunk means the same as this one.
constexpr int32_t kMaxSeqlen = 1 << 29;
constexpr int32_t kMaxWindow = 1 << 29;

// Division of n in [0, 2^31) by a run-time constant with one high multiplication (Granlund and Montgomery, "Division by
// invariant integers using multiplication", PLDI 1994).
struct FastDivisor {
  uint32_t divisor = 0;
  uint32_t magic = 0;
  uint32_t shift = 0;
};

inline FastDivisor make_fast_divisor(uint32_t divisor) {
  FastDivisor f;
  f.divisor = divisor;
  if (divisor <= 1) return f;
  uint32_t log2 = 0;
  while ((uint64_t{1} << log2) < divisor) ++log2;
  f.magic = static_cast<uint32_t>(((uint64_t{1} << (31 + log2)) + divisor - 1) / divisor);
  f.shift = log2 - 1;
  return f;
}

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
  const SeqSpan* spans = nullptr;      // [batch + 1]
  const TileRef* tiles = nullptr;      // [tile_capacity]
  const int32_t* num_tiles = nullptr;  // [1], <= tile_capacity
};

// The sequences of one side (queries or keys).
struct SeqSide {
  bool is_thd = false;
  int64_t seqlen = 0;                   // s of the buffer: per sequence, or all tokens t for thd
  const int32_t* cu_seqlens = nullptr;  // [batch + 1] valid lengths of bshd under a padding mask; null = full
  SidePlan plan;                        // thd only
};

// How a backward's kernel uses the scratch of dq.
struct DqUse {
  bool takes_turns = false;   // DqScratch::turns
  bool stores_first = false;  // what comes first is stored, so that only rows that nothing comes to have to be zeroed
  bool transposed = false;    // the order is TransposedScratchLayout
  bool writes_dq = false;     // the kernel writes dq, but for padding and rows that see nothing
};

// Float workspace in which key tiles add up dq: [groups, h, kRows * d_qk], a group being kRows consecutive query rows
// of one sequence. The order inside a block of kRows x d_qk is the arch's (ScratchLayout in arch/*/layout.cuh), such
// that a warp's atomic adds are contiguous. Groups of different sequences never coincide: at most kRows - 1 rows a
// sequence are wasted.
struct DqScratch {
  static constexpr int32_t kRows = 16;
  static constexpr int32_t kTurns = 2;
  float* data = nullptr;
  int32_t* turns = nullptr;  // [groups, h, kTurns]: by which blocks wait for each other; zeroed
  DqUse use;
};

// Groups in the scratch, a pure function of capacities.
constexpr int64_t dq_scratch_groups(bool is_thd, int64_t seqlen, int64_t batch) {
  if (is_thd) return seqlen / DqScratch::kRows + batch + 1;
  return (seqlen + DqScratch::kRows - 1) / DqScratch::kRows * batch;
}

// Float workspace with what a backward takes of each query row, as a copy engine reads it: [2, h, groups * kRows],
// first lse in base 2, +inf for rows that see nothing, then -delta. Groups are those of DqScratch. Rows of no token
// hold anything, and a tile may read kSpareRows past the last.
struct RowStats {
  static constexpr int32_t kSpareRows = 128;
  float* data = nullptr;
};

enum class BiasKind : int32_t { kNone = 0, kPreScale = 1, kPostScale = 2, kAlibi = 3 };

struct AttnParams {
  // -- forward ---------------------------------------------------------------------------------------------
  TensorView q, k, v, o;
  TensorView lse;  // float; head_dim 1: element (b, token, h)
  // -- backward --------------------------------------------------------------------------------------------
  TensorView d_o, dq, dk, dv;
  TensorView delta;    // float, workspace: rowsum(do * o), strides as lse
  DqScratch dq_accum;  // data null when dq is written directly
  RowStats row_stats;  // data null unless the backward's kernel reads it
  // -- sequences -------------------------------------------------------------------------------------------
  int32_t batch = 0;
  SeqSide q_side, kv_side;
  // -- heads -----------------------------------------------------------------------------------------------
  int32_t num_heads_q = 0;
  int32_t num_heads_kv = 0;
  int32_t head_dim_qk = 0;
  int32_t head_dim_v = 0;
  // -- which keys a query sees: attn/visibility.cuh ------------------------------------------------------------
  // Positions are 32-bit on the device: kMaxSeqlen and kMaxWindow keep their sums in range.
  bool bottom_right = false;  // the diagonal is offset by seqlen_kv - seqlen_q, else by 0
  int32_t window_left = -1;   // j >= i + offset - window_left; -1 unbounded
  int32_t window_right = -1;  // j <= i + offset + window_right; 0 for causal masks
  FastDivisor chunk;          // chunk size; divisor 0 = off
  ScoreView mask;             // uint8, nonzero = masked out; null unless the mask is arbitrary
  // -- scores ----------------------------------------------------------------------------------------------
  float attn_scale = 1.f;
  float softcap = 0.f;  // 0 off
  BiasKind bias_kind = BiasKind::kNone;
  ScoreView bias;                        // of q's dtype
  ScoreView dbias;                       // null unless its gradient is wanted
  int32_t bias_shape[4] = {0, 0, 0, 0};  // [BIAS_BATCH, BIAS_HEADS, BIAS_SEQLEN_Q, BIAS_SEQLEN_KV], of bias and dbias
  const float* alibi_slopes = nullptr;   // [h] or [b, h]
  int64_t alibi_batch_stride = 0;
  bool has_sink = false;  // off-by-one: sink 0 (softmax_offset null); learnable: softmax_offset[h]
  const float* softmax_offset = nullptr;
  float* d_softmax_offset = nullptr;  // [h]
  // -- dropout: see device/philox.cuh -----------------------------------------------------------------------
  float dropout = 0.f;                  // 0 off
  const uint64_t* rng_state = nullptr;  // {seed, offset}
  // -- scheduling ---------------------------------------------------------------------------------------------
  // Workspace [1]: items that resident blocks have taken. Zeroed by delta, in a forward by the sequence plan, and where
  // there is no plan either by the launcher.
  int32_t* next_item = nullptr;
  // -- how ----------------------------------------------------------------------------------------------------
  bool deterministic = false;
  // Most queries and keys of a sequence, as far as the caller promises; 0 = unknown. They choose among the kernels for
  // short segments; a longer one is computed all the same.
  int32_t max_segment_seqlen_q = 0;
  int32_t max_segment_seqlen_kv = 0;
};

// Whether scores need more than a positive scale and an interval of keys. Kernels are built without and with these
// extras: their registers are what keeps the plain ones from spilling.
inline bool has_extras(const AttnParams& p) {
  return p.bias_kind != BiasKind::kNone || p.softcap > 0.f || p.mask.data != nullptr || p.dropout > 0.f ||
         !(p.attn_scale > 0.f);
}

}  // namespace portattn
