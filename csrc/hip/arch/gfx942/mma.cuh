// gfx942 and gfx950: warp-level products. 16-bit types and float go through MFMA 16x16 with float accumulators, float
// operands in full precision; double goes through fused multiply-adds on the same accumulator layout.
#pragma once

#include "arch/fma_slots.cuh"
#include "arch/gfx942/copy.cuh"
#include "arch/gfx942/layout.cuh"
#include "device/types.cuh"

namespace portattn::gfx942 {

template <class T>
constexpr bool kUsesMfma = sizeof(T) <= 4;

// ---- instructions -------------------------------------------------------------------------------------------

template <class T, int Elements>
struct FragmentOf {
  typedef T type __attribute__((ext_vector_type(Elements)));
};
template <class T, int Elements>
using Fragment = typename FragmentOf<T, Elements>::type;
using Acc4 = Fragment<float, 4>;

PA_DEVICE Acc4 mfma(Fragment<bf16, 4> a, Fragment<bf16, 4> b, Acc4 d) {
  using Bits = Fragment<short, 4>;
  return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(__builtin_bit_cast(Bits, a), __builtin_bit_cast(Bits, b), d, 0, 0,
                                                   0);
}
PA_DEVICE Acc4 mfma(Fragment<half, 4> a, Fragment<half, 4> b, Acc4 d) {
  return __builtin_amdgcn_mfma_f32_16x16x16f16(a, b, d, 0, 0, 0);
}
PA_DEVICE Acc4 mfma(Fragment<float, 4> a, Fragment<float, 4> b, Acc4 d) {
  PA_UNROLL
  for (int e = 0; e < 4; ++e) d = __builtin_amdgcn_mfma_f32_16x16x4f32(a[e], b[e], d, 0, 0, 0);
  return d;
}

#if defined(__gfx950__)
PA_DEVICE Acc4 mfma(Fragment<bf16, 8> a, Fragment<bf16, 8> b, Acc4 d) {
  return __builtin_amdgcn_mfma_f32_16x16x32_bf16(a, b, d, 0, 0, 0);
}
PA_DEVICE Acc4 mfma(Fragment<half, 8> a, Fragment<half, 8> b, Acc4 d) {
  return __builtin_amdgcn_mfma_f32_16x16x32_f16(a, b, d, 0, 0, 0);
}
#else
// The sum over k may be taken in any order, as long as both operands agree.
template <class Fragment8>
PA_DEVICE Acc4 mfma(Fragment8 a, Fragment8 b, Acc4 d) {
  return mfma(a.hi, b.hi, mfma(a.lo, b.lo, d));
}
#endif

// ---- fragments ----------------------------------------------------------------------------------------------

// Elements of k that a lane holds at a time: 16 bytes, or 8 where K is an odd multiple of 16.
template <class T, int Depth>
constexpr int kFragment = sizeof(T) == 2 && Depth % 32 == 0 ? 8 : 4;

// Reads an operand whose k lies along the rows of the shared tile: rows `corner` + Side's places.
template <class Smem, class Side, int Elements>
struct AlongRows {
  using Frag = Fragment<typename Smem::Element, Elements>;
  Smem tile;
  int corner, lane;
  PA_DEVICE void read(Frag (&out)[Side::kWays], int step, int group) const {
    PA_UNROLL
    for (int w = 0; w < Side::kWays; ++w) {
      const int row = corner + Side::place(lane % kBlock, group * Side::kWays + w);
      out[w] = *reinterpret_cast<const Frag*>(&tile.at(row, fragment_k<Elements>(lane, step)));
    }
  }
};

#if defined(__gfx950__)
// A read that transposes: 16 lanes name four elements each, four rows of 16 columns, and get four rows of one column.
template <class T>
PA_DEVICE Fragment<T, 4> read_transposed(const T* from) {
  typedef Fragment<short, 4> __attribute__((address_space(3))) InLds;
  return __builtin_bit_cast(Fragment<T, 4>, __builtin_amdgcn_ds_read_tr16_b64_v4i16((InLds*)from));  // NOLINT
}
#endif

// Reads an operand whose k runs across the rows, columns `corner` + Side's places; `row_of(step, e)` says which row is
// element e. A pair of blocks is read together and sorted in registers; columns in order are transposed by the read.
template <class Smem, class Side, int Elements, class RowOf>
struct AcrossRows {
  using T = typename Smem::Element;
  using Frag = Fragment<T, Elements>;
  Smem tile;
  int corner, lane;
  RowOf row_of;
  PA_DEVICE void read(Frag (&out)[Side::kWays], int step, int group) const {
#if defined(__gfx950__)
    if constexpr (sizeof(T) == 2 && Side::kInOrder) return read_fours(out[0], step, group);
#endif
    const int col = corner + Side::place(lane % kBlock, group * Side::kWays);
    PA_UNROLL
    for (int e = 0; e < Elements; ++e) {
      const T* from = &tile.at(row_of(step, e), col);
      if constexpr (Side::kWays == 2) {
        const Fragment<T, 2> pair = *reinterpret_cast<const Fragment<T, 2>*>(from);
        out[0][e] = pair.x;
        out[1][e] = pair.y;
      } else {
        out[0][e] = *from;
      }
    }
  }

#if defined(__gfx950__)
 private:
  PA_DEVICE void read_fours(Frag& out, int step, int block) const {
    const int row = lane % kBlock / 4, col = corner + Side::place(lane % 4 * 4, block);
    PA_UNROLL
    for (int e = 0; e < Elements; e += 4) {
      const Fragment<T, 4> four = read_transposed<T>(&tile.at(row_of(step, e + row), col));
      PA_UNROLL
      for (int i = 0; i < 4; ++i) out[e + i] = four[i];
    }
  }
#endif
};
template <class Side, int Elements, class Smem, class RowOf>
PA_DEVICE AcrossRows<Smem, Side, Elements, RowOf> across_rows(Smem tile, int corner, int lane, RowOf row_of) {
  return {tile, corner, lane, row_of};
}
// With the order of k that AlongRows has.
template <class Side, int Elements, class Smem>
PA_DEVICE auto across_rows(Smem tile, int corner, int lane) {
  return across_rows<Side, Elements>(tile, corner, lane,
                                     [lane](int step, int e) { return fragment_k<Elements>(lane, step) + e; });
}

// acc += left . right over `Depth` of k, with fragments from two readers.
template <class T, int Depth, int Unroll, class Acc, class Left, class Right>
PA_DEVICE void mma_fragments(Acc& acc, const Left& left, const Right& right) {
  constexpr int kElements = kFragment<T, Depth>;
  constexpr int kSteps = Depth / (kElements * (kLanes / kBlock));
  static_assert(kSteps * kElements * (kLanes / kBlock) == Depth, "K is whole steps");
  using Rows = typename Acc::Layout::Rows;
  using Cols = typename Acc::Layout::Cols;
  using Frag = Fragment<T, kElements>;
  auto& d = reinterpret_cast<Acc4(&)[Acc::kM / kBlock][Acc::kN / kBlock]>(acc.data);
#pragma unroll Unroll
  for (int step = 0; step < kSteps; ++step) {
    Frag rows[Rows::kGroups][Rows::kWays];
    PA_UNROLL
    for (int g = 0; g < Rows::kGroups; ++g) left.read(rows[g], step, g);
    PA_UNROLL
    for (int g = 0; g < Cols::kGroups; ++g) {
      Frag cols[Cols::kWays];
      right.read(cols, step, g);
      PA_UNROLL
      for (int w = 0; w < Cols::kWays; ++w) {
        PA_UNROLL
        for (int m = 0; m < Acc::kM / kBlock; ++m) {
          Acc4& block = d[m][g * Cols::kWays + w];
          block = mfma(cols[w], rows[m / Rows::kWays][m % Rows::kWays], block);
        }
      }
    }
  }
}

// Steps of k unrolled together.
constexpr int kUnrolledSteps = 2;

// ---- the four products (tile/ops.cuh) -------------------------------------------------------------------------

template <class Acc, class A, class B>
PA_DEVICE void mma_nt(Acc& acc, A a, int a_row, B b, int b_row, int lane) {
  static_assert(A::kCols == B::kCols, "A and B share K");
  using T = typename A::Element;
  using L = typename Acc::Layout;
  if constexpr (kUsesMfma<T>) {
    constexpr int kElements = kFragment<T, A::kCols>;
    const AlongRows<A, typename L::Rows, kElements> left{a, a_row, lane};
    const AlongRows<B, typename L::Cols, kElements> right{b, b_row, lane};
    mma_fragments<T, A::kCols, kUnrolledSteps>(acc, left, right);
  } else {
    fma_slots<A::kCols>(
        acc, lane, [&](int l, int s, int k) { return a.at(a_row + L::row(l, s), k); },
        [&](int l, int k, int c) { return b.at(b_row + L::col(l, c), k); });
  }
}

template <class Acc, class A, class B>
PA_DEVICE void mma_nn(Acc& acc, A a, int a_row, B b, int b_col, int lane) {
  static_assert(A::kCols == B::kRows, "A and B share K");
  using T = typename A::Element;
  using L = typename Acc::Layout;
  if constexpr (kUsesMfma<T>) {
    constexpr int kElements = kFragment<T, A::kCols>;
    const AlongRows<A, typename L::Rows, kElements> left{a, a_row, lane};
    mma_fragments<T, A::kCols, kUnrolledSteps>(acc, left, across_rows<typename L::Cols, kElements>(b, b_col, lane));
  } else {
    fma_slots<A::kCols>(
        acc, lane, [&](int l, int s, int k) { return a.at(a_row + L::row(l, s), k); },
        [&](int l, int k, int c) { return b.at(k, b_col + L::col(l, c)); });
  }
}

template <class Acc, class A, class B>
PA_DEVICE void mma_tn(Acc& acc, A a, int a_col, B b, int b_col, int lane) {
  static_assert(A::kRows == B::kRows, "A and B share K");
  using T = typename A::Element;
  using L = typename Acc::Layout;
  if constexpr (kUsesMfma<T>) {
    constexpr int kElements = kFragment<T, A::kRows>;
    mma_fragments<T, A::kRows, kUnrolledSteps>(acc, across_rows<typename L::Rows, kElements>(a, a_col, lane),
                                               across_rows<typename L::Cols, kElements>(b, b_col, lane));
  } else {
    fma_slots<A::kRows>(
        acc, lane, [&](int l, int s, int k) { return a.at(k, a_col + L::row(l, s)); },
        [&](int l, int k, int c) { return b.at(k, b_col + L::col(l, c)); });
  }
}

// Rounds a tile into shared memory at (row, col), pairs of columns at a time.
template <class Smem, class Tile>
PA_DEVICE void store_acc(Smem smem, const Tile& tile, int row, int col, int lane) {
  using T = typename Smem::Element;
  using L = typename Tile::Layout;
  lane = opaque(lane);
  PA_UNROLL
  for (int s = 0; s < Tile::kRowSlots; ++s) {
    PA_UNROLL
    for (int c = 0; c < Tile::kColSlots; c += 2) {
      const Fragment<T, 2> pair = {from_acc<T>(tile.at(s, c)), from_acc<T>(tile.at(s, c + 1))};
      *reinterpret_cast<Fragment<T, 2>*>(&smem.at(row + L::row(lane, s), col + L::col(lane, c))) = pair;
    }
  }
}

// A left operand that is an accumulator tile of this very warp: a lane's row slots are the rows that it must give, and
// its column slots are k in an order that the right operand then follows.
template <class T, class P, int Elements>
struct FromAccumulators {
  const P& p;
  using Side = typename P::Layout::Rows;
  PA_DEVICE void read(Fragment<T, Elements> (&out)[Side::kWays], int step, int group) const {
    PA_UNROLL
    for (int w = 0; w < Side::kWays; ++w) {
      PA_UNROLL
      for (int e = 0; e < Elements; ++e) {
        out[w][e] = from_acc<T>(p.at(group * Side::kWays + w, step * Elements + e));
      }
    }
  }
};

// Double passes through `staging`, rows [row, row + kM) of which are this warp's own.
template <class Acc, class P, class Staging, class B>
PA_DEVICE void mma_rn(Acc& acc, const P& p, Staging staging, int row, B b, int b_col, int lane) {
  static_assert(P::kN == B::kRows && P::kM == Acc::kM, "P and B share K");
  using T = typename B::Element;
  if constexpr (kUsesMfma<T>) {
    constexpr int kElements = kFragment<T, P::kN>;
    const auto right = across_rows<typename Acc::Layout::Cols, kElements>(
        b, b_col, lane, [lane](int step, int e) { return P::Layout::col(lane, step * kElements + e); });
    // All steps unrolled: p is indexed by k.
    mma_fragments<T, P::kN, P::kN / 16>(acc, FromAccumulators<T, P, kElements>{p}, right);
  } else {
    store_acc(staging, p, row, 0, lane);
    warp_sync();  // p is staged
    mma_nn(acc, staging, row, b, b_col, lane);
    warp_sync();  // all lanes are done with it
  }
}

}  // namespace portattn::gfx942
