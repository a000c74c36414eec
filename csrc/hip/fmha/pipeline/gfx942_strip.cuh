// What the gfx942 pipelines are made of: a wave's strip of 32 rows on MFMA 32x32x8 (on gfx950 32x32x16), operands of 16
// bits.
//
// D[i, j] = sum of A[i, k] B[k, j], k < 8: lane (h = lane / 32, c = lane % 32) gives four consecutive k, 4 h + e, of
// row c of A and of column c of B, and holds column c of D, rows 8 m + 4 h + e in register 4 m + e. A lane thus owns
// one whole column of D, and its registers 4 m .. 4 m + 3 are the operand of the m-th step of a product that sums over
// D's rows: products follow on products without leaving the lane. With k < 16 a lane gives what it gives to two steps.
// Source of the maps: AMD matrix instruction calculator, https://github.com/ROCm/amd_matrix_instruction_calculator.
#pragma once

#include "arch/gfx942/buffer.cuh"
#include "arch/gfx942/layout.cuh"
#include "attn/params.h"
#include "device/sync.cuh"
#include "device/types.cuh"
#include "tile/reg_tile.cuh"

namespace portattn::gfx942 {

typedef uint32_t Bits2 __attribute__((ext_vector_type(2)));  // four elements: one operand
typedef uint32_t Bits4 __attribute__((ext_vector_type(4)));  // eight elements: the operands of two steps
typedef float Acc16 __attribute__((ext_vector_type(16)));    // 32 x 32 accumulators
typedef float Float4 __attribute__((ext_vector_type(4)));

template <class T>
PA_DEVICE void mfma_32x32x8(Bits2 a, Bits2 b, Acc16& d) {
  if constexpr (std::is_same_v<T, bf16>) {
    typedef short Operand __attribute__((ext_vector_type(4)));
    d = __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(__builtin_bit_cast(Operand, a), __builtin_bit_cast(Operand, b), d, 0,
                                                 0, 0);
  } else {
    typedef half Operand __attribute__((ext_vector_type(4)));
    d = __builtin_amdgcn_mfma_f32_32x32x8f16(__builtin_bit_cast(Operand, a), __builtin_bit_cast(Operand, b), d, 0, 0,
                                             0);
  }
}

#if defined(__gfx950__)
template <class T>
PA_DEVICE void mfma_32x32x16(Bits4 a, Bits4 b, Acc16& d) {
  typedef T Operand __attribute__((ext_vector_type(8)));
  const Operand left = __builtin_bit_cast(Operand, a), right = __builtin_bit_cast(Operand, b);
  if constexpr (std::is_same_v<T, bf16>) {
    d = __builtin_amdgcn_mfma_f32_32x32x16_bf16(left, right, d, 0, 0, 0);
  } else {
    d = __builtin_amdgcn_mfma_f32_32x32x16_f16(left, right, d, 0, 0, 0);
  }
}
#endif

// The i-th of the two steps that a pair of operands holds. gfx950 takes both at once, in place of the second.
template <class T>
PA_DEVICE void multiply_step(Bits4 a, Bits4 b, int i, Acc16& d) {
#if defined(__gfx950__)
  if (i == 1) mfma_32x32x16<T>(a, b, d);
#else
  mfma_32x32x8<T>(i == 0 ? a.xy : a.zw, i == 0 ? b.xy : b.zw, d);
#endif
}

// Two probabilities, or gradients of scores, to the element type. Round to nearest even; the NaNs that arithmetic makes
// have low bits of 0 and survive without a test.
template <class T>
PA_DEVICE uint32_t pack_pair(float x, float y) {
#if !defined(__gfx950__)  // which has an instruction for it
  if constexpr (std::is_same_v<T, bf16>) {
    const uint32_t a = __builtin_bit_cast(uint32_t, x), b = __builtin_bit_cast(uint32_t, y);
    return __builtin_amdgcn_perm(b + 0x7fffu + (b >> 16 & 1), a + 0x7fffu + (a >> 16 & 1), 0x07060302u);
  }
#endif
  typedef T Pair __attribute__((ext_vector_type(2)));
  return __builtin_bit_cast(uint32_t, Pair{from_acc<T>(x), from_acc<T>(y)});
}

// An accumulator tile of 32 rows by N columns, made transposed, so that a lane owns one row. Interface of AccTile.
template <int N>
struct StripTile {
  using Layout = StripLayout<kStrip, N>;
  using Value = float;
  static constexpr int kM = kStrip;
  static constexpr int kN = N;
  static constexpr int kRowSlots = Layout::kRowSlots;
  static constexpr int kColSlots = Layout::kColSlots;

  alignas(16) float data[kColSlots];

  PA_DEVICE float& at(int /*s*/, int c) { return data[c]; }
  PA_DEVICE const float& at(int /*s*/, int c) const { return data[c]; }
  PA_DEVICE Acc16& block(int i) { return reinterpret_cast<Acc16*>(data)[i]; }
  PA_DEVICE void fill(float value) {
    PA_UNROLL
    for (int i = 0; i < kColSlots; ++i) data[i] = value;
  }
};

// The other half of a row is 32 lanes away.
template <int N>
PA_DEVICE void row_max(const StripTile<N>& tile, RowValues<StripTile<N>>& out) {
  float m = tile.data[0];
  PA_UNROLL
  for (int c = 1; c < tile.kColSlots; ++c) m = max_acc(m, tile.data[c]);
  out[0] = max_acc(m, shuffle_xor(m, kStrip));
}
template <int N>
PA_DEVICE void row_allsum(RowValues<StripTile<N>>& values) {
  values[0] += shuffle_xor(values[0], kStrip);
}

// ---- rows in global memory ------------------------------------------------------------------------------------

// The largest tile that a pipeline views at a time.
constexpr int64_t kMaxRows = 256;

// Offset of a 16-byte chunk in rows of which `cols` elements are valid.
PA_DEVICE uint32_t chunk_offset(int row, int chunk, uint32_t row_bytes, int32_t cols) {
  return chunk * 8 < cols ? row * row_bytes + chunk * 16 : RowsInMemory::kNowhere;
}

// Can offsets into any kMaxRows rows be 32 bits wide? Not with stride 0, that of a single row and of a row that is
// repeated: the end of the view would be its beginning.
inline bool has_short_rows(const TensorView& view) {
  return view.token_stride > 0 && view.token_stride < INT32_MAX / (2 * kMaxRows);
}

// ---- tiles in LDS --------------------------------------------------------------------------------------------------
// How LDS serves a wave, 16 bytes a lane in groups of eight lanes:
// https://rocm.docs.amd.com/projects/composable_kernel/en/latest/conceptual/ck_tile/hardware/lds_bank_conflicts.html

// Rows as in memory, padded by 16 bytes: eight neighbouring rows lie in different banks at any chunk.
template <int Cols>
constexpr int kRowPitch = Cols * 2 + 16;

// Panels: the transpose of rows that a product sums over. A panel is eight rows; its cell of 16 bytes, one for each
// column, holds them in the order in which a lane gives them to two steps.
//
// Column `col` has place panel_place(col) among the cells of a panel. The permutation inside eight columns keeps both
// sides free of bank conflicts: readers take 32 neighbouring columns, writers every eighth column of the same rows.
PA_HOST_DEVICE constexpr int panel_place(int col) { return col ^ (col >> 3 & 7); }

// A row that panels of an operand made of accumulators hold: k = 4 h + e of the steps 2 j and 2 j + 1 is row
// 16 j + 8 step + 4 h + e, in panel 2 j + h, element 4 step + e.
PA_HOST_DEVICE constexpr int panel_row(int panel, int element) {
  return panel / 2 * 16 + element / 4 * 8 + panel % 2 * 4 + element % 4;
}

// Elements `i` of two rows, side by side, from eight of each.
PA_DEVICE uint32_t zip_rows(Bits4 even, Bits4 odd, int i) {
  return __builtin_amdgcn_perm(odd[i / 2], even[i / 2], i % 2 == 0 ? 0x05040100u : 0x07060302u);
}

// The same between two neighbouring lanes, of which the even one has the even row: gives the even lane the lower
// elements of both rows, the odd one the upper.
PA_DEVICE uint32_t zip_lanes(uint32_t own, int lane) {
  constexpr int kSwapNeighbours = 0xb1;  // quad_perm [1, 0, 3, 2]
  const uint32_t other = __builtin_amdgcn_mov_dpp(own, kSwapNeighbours, 0xf, 0xf, true);
  return __builtin_amdgcn_perm(other, own, lane % 2 == 0 ? 0x05040100u : 0x03020706u);
}

// ---- order ---------------------------------------------------------------------------------------------------------

// Instructions stay on their side.
PA_DEVICE void pin() { __builtin_amdgcn_sched_barrier(0); }

// What is in these registers is made before this point.
template <class V>
PA_DEVICE void settle(V& x) {
  static_assert(sizeof(V) % 4 == 0, "whole registers");
  PA_UNROLL
  for (float& word : reinterpret_cast<float(&)[sizeof(V) / 4]>(x)) asm volatile("" : "+v"(word));
}

// All waves of the block arrive and wait. What they wrote to LDS is visible after; loads from memory stay in flight.
PA_DEVICE void lds_sync() {
  pin();
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  pin();
}

// ---- results -------------------------------------------------------------------------------------------------------

// Columns that are staged at a time, and the LDS that a wave needs for it.
constexpr int kStoredCols = 64;
constexpr int kStoreBytes = kStrip * kRowPitch<kStoredCols>;

// Rows [0, rows_valid) come from the tile, times `scale`; rows [rows_valid, rows_total) are written 0. The wave stages
// them in its own LDS, so that each row goes out in whole lines.
template <class T, int N>
PA_DEVICE void store_strip(T* dst, int64_t row_stride, const StripTile<N>& tile, float scale, char* staging,
                           int rows_valid, int rows_total, int cols_valid, int lane) {
  constexpr int kPitch = kRowPitch<kStoredCols>, kChunks = kStoredCols / 8;
  char* own_row = staging + lane % kStrip * kPitch + lane / kStrip * 8;
  PA_UNROLL
  for (int col = 0; col < N; col += kStoredCols) {
    PA_UNROLL
    for (int m = 0; m < kStoredCols / 8; ++m) {
      const float* x = tile.data + col / 2 + 4 * m;
      typedef T Quad __attribute__((ext_vector_type(4)));
      *reinterpret_cast<Quad*>(own_row + m * 16) = Quad{from_acc<T>(x[0] * scale), from_acc<T>(x[1] * scale),
                                                        from_acc<T>(x[2] * scale), from_acc<T>(x[3] * scale)};
    }
    warp_sync();  // the strip is staged
    PA_UNROLL
    for (int r0 = 0; r0 < kStrip; r0 += 64 / kChunks) {
      const int row = r0 + lane / kChunks, chunk = lane % kChunks;
      Bits4 bits = Bits4(0);
      if (row < rows_valid) bits = *reinterpret_cast<const Bits4*>(staging + row * kPitch + chunk * 16);
      if (row < rows_total && col + chunk * 8 < cols_valid) {
        *reinterpret_cast<Bits4*>(dst + row * row_stride + col + chunk * 8) = bits;
      }
    }
    warp_sync();  // all lanes have read it
  }
}

}  // namespace portattn::gfx942
