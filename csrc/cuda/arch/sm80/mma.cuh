// sm_80 and later: warp-level products. 16-bit types go through ldmatrix and mma.sync m16n8k16; float and double go
// through fused multiply-adds on the same accumulator layout, in full precision.
#pragma once

#include "arch/fma_slots.cuh"
#include "arch/sm80/copy.cuh"
#include "arch/sm80/layout.cuh"
#include "device/types.cuh"

namespace portattn::sm80 {

template <class T>
constexpr bool kUsesTensorCores = sizeof(T) == 2;

// ---- instructions -------------------------------------------------------------------------------------------

PA_DEVICE void mma_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bf16) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
PA_DEVICE void mma_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, half) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <bool Trans>
PA_DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) {
  if constexpr (Trans) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
  }
}

template <class T>
PA_DEVICE uint32_t pack2(float lo, float hi) {
  if constexpr (std::is_same_v<T, bf16>) {
    __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *reinterpret_cast<uint32_t*>(&v);
  } else {
    __half2 v = __floats2half2_rn(lo, hi);
    return *reinterpret_cast<uint32_t*>(&v);
  }
}
template <class T>
PA_DEVICE float2 unpack2(uint32_t x) {
  if constexpr (std::is_same_v<T, bf16>) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&x));
  } else {
    return __half22float2(*reinterpret_cast<const __half2*>(&x));
  }
}

// ---- fragments ----------------------------------------------------------------------------------------------

constexpr bool is_power_of_two(int n) { return n > 0 && (n & (n - 1)) == 0; }

// Reads 16 x 16 fragments of a shared tile from a corner whose row is a multiple of 8, so that a lane's swizzle is the
// same for every fragment. `Extent` is how many columns are read from the corner on, 0 when the corner's column is 0.
// A corner at a multiple of a power of two extent makes column steps an XOR: one instruction an address and no
// register.
template <class Smem, class Map, bool Trans, int Extent>
struct FragmentReader {
  using Layout = typename Smem::Layout;
  static constexpr int kRowBytes = Smem::kCols * 2;
  static constexpr bool kXorColumns = Extent == 0 || is_power_of_two(Extent);
  static constexpr bool kXorAddress = kXorColumns && is_power_of_two(kRowBytes);
  uint32_t row_address;
  uint32_t chunk;  // swizzled if kXorColumns; folded into row_address if kXorAddress
  uint32_t swizzle;

  PA_DEVICE FragmentReader(Smem tile, int row, int col, int lane) {
    lane = opaque(lane);
    const int r = row + Map::row(lane);
    row_address = smem_address(tile.data) + r * kRowBytes;
    chunk = (col + Map::col(lane)) / 8;
    swizzle = Layout::swizzle(r);
    if (kXorColumns) chunk ^= swizzle;
    if (kXorAddress) row_address += chunk * 16;
  }
  // Fragment at (row, col) from the corner; both multiples of 16.
  PA_DEVICE void read(uint32_t (&out)[4], int row, int col) const {
    uint32_t address;
    if constexpr (kXorAddress) {
      address = row_address ^ (col * 2);
    } else if constexpr (kXorColumns) {
      address = row_address + ((chunk * 16) ^ (col * 2));
    } else {
      address = row_address + (((chunk + col / 8) ^ swizzle) * 16);
    }
    ldmatrix_x4<Trans>(out, address + row * kRowBytes);
  }
};

// K steps unrolled together. With many accumulators, more would let the compiler read fragments so far ahead that some
// of them spill; with few, fewer cost 2 to 4 % (hd128 backward on an H200).
template <class Acc>
constexpr int kUnrolledSteps = sizeof(Acc::data) >= 64 * 4 ? 4 : 8;

// acc += A . B with A fragments from read_a(k step, 16-row block, out) and B fragments, two n8 blocks at a time, from
// read_b(k step, 16-column block, out).
template <class T, int Depth, int Unroll, class Acc, class ReadA, class ReadB>
PA_DEVICE void mma_fragments(Acc& acc, ReadA read_a, ReadB read_b) {
  constexpr int kBlocksM = Acc::kM / 16, kBlocksN = Acc::kN / 16, kSteps = Depth / 16;
  static_assert(Acc::kN % 16 == 0 && Depth % 16 == 0, "B fragments come in pairs of n8 blocks");
  auto& d = reinterpret_cast<float(&)[kBlocksM][kBlocksN * 2][4]>(acc.data);
#pragma unroll Unroll
  for (int k = 0; k < kSteps; ++k) {
    uint32_t a[kBlocksM][4];
    PA_UNROLL
    for (int m = 0; m < kBlocksM; ++m) read_a(k, m, a[m]);
    PA_UNROLL
    for (int n = 0; n < kBlocksN; ++n) {
      uint32_t b[4];
      read_b(k, n, b);
      PA_UNROLL
      for (int m = 0; m < kBlocksM; ++m) {
        mma_16816(d[m][2 * n], a[m], b[0], b[1], T{});
        mma_16816(d[m][2 * n + 1], a[m], b[2], b[3], T{});
      }
    }
  }
}

// ---- the four products (tile/ops.cuh) -------------------------------------------------------------------------

template <class Acc, class A, class B>
PA_DEVICE void mma_nt(Acc& acc, A a, int a_row, B b, int b_row, int lane) {
  static_assert(A::kCols == B::kCols, "A and B share K");
  using T = typename A::Element;
  using L = typename Acc::Layout;
  if constexpr (kUsesTensorCores<T>) {
    FragmentReader<A, LdmatrixA, false, 0> ra(a, a_row, 0, lane);
    FragmentReader<B, LdmatrixB, false, 0> rb(b, b_row, 0, lane);
    mma_fragments<T, A::kCols, kUnrolledSteps<Acc>>(
        acc, [&](int k, int m, uint32_t(&out)[4]) { ra.read(out, m * 16, k * 16); },
        [&](int k, int n, uint32_t(&out)[4]) { rb.read(out, n * 16, k * 16); });
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
  if constexpr (kUsesTensorCores<T>) {
    FragmentReader<A, LdmatrixA, false, 0> ra(a, a_row, 0, lane);
    FragmentReader<B, LdmatrixTransB, true, Acc::kN> rb(b, 0, b_col, lane);
    mma_fragments<T, A::kCols, kUnrolledSteps<Acc>>(
        acc, [&](int k, int m, uint32_t(&out)[4]) { ra.read(out, m * 16, k * 16); },
        [&](int k, int n, uint32_t(&out)[4]) { rb.read(out, k * 16, n * 16); });
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
  if constexpr (kUsesTensorCores<T>) {
    FragmentReader<A, LdmatrixTransA, true, Acc::kM> ra(a, 0, a_col, lane);
    FragmentReader<B, LdmatrixTransB, true, Acc::kN> rb(b, 0, b_col, lane);
    mma_fragments<T, A::kRows, kUnrolledSteps<Acc>>(
        acc, [&](int k, int m, uint32_t(&out)[4]) { ra.read(out, k * 16, m * 16); },
        [&](int k, int n, uint32_t(&out)[4]) { rb.read(out, k * 16, n * 16); });
  } else {
    fma_slots<A::kRows>(
        acc, lane, [&](int l, int s, int k) { return a.at(k, a_col + L::row(l, s)); },
        [&](int l, int k, int c) { return b.at(k, b_col + L::col(l, c)); });
  }
}

// Rounds a tile into shared memory at (row, col), both multiples of 8, pairs of columns at a time.
template <class Smem, class Tile>
PA_DEVICE void store_acc(Smem smem, const Tile& tile, int row, int col, int lane) {
  using T = typename Smem::Element;
  using L = typename Tile::Layout;
  lane = opaque(lane);
  PA_UNROLL
  for (int c = 0; c < Tile::kColSlots; c += 2) {
    // Row slots are multiples of 8 rows apart: one swizzle, constant steps.
    T* out = &smem.at(row + L::row(lane, 0), col + L::col(lane, c));
    PA_UNROLL
    for (int s = 0; s < Tile::kRowSlots; ++s) {
      T* at = out + L::row(0, s) * Smem::kCols;
      if constexpr (kUsesTensorCores<T>) {
        *reinterpret_cast<uint32_t*>(at) = pack2<T>(tile.at(s, c), tile.at(s, c + 1));
      } else {
        at[0] = tile.at(s, c);
        at[1] = tile.at(s, c + 1);
      }
    }
  }
}

// P's accumulator fragments are A fragments already: registers of column blocks 2k and 2k + 1 make k step k. Wider
// types pass through `staging`, rows [row, row + kM) of which are this warp's own.
template <class Acc, class P, class Staging, class B>
PA_DEVICE void mma_rn(Acc& acc, const P& p, Staging staging, int row, B b, int b_col, int lane) {
  static_assert(P::kN == B::kRows && P::kM == Acc::kM, "P and B share K");
  using T = typename B::Element;
  if constexpr (kUsesTensorCores<T>) {
    FragmentReader<B, LdmatrixTransB, true, Acc::kN> rb(b, 0, b_col, lane);
    mma_fragments<T, P::kN, P::kN / 16>(  // all steps unrolled: p is indexed by k
        acc,
        [&](int k, int m, uint32_t(&out)[4]) {
          PA_UNROLL
          for (int i = 0; i < 4; ++i) {
            const int s = 2 * m + i % 2, c = 4 * k + i / 2 * 2;
            out[i] = pack2<T>(p.at(s, c), p.at(s, c + 1));
          }
        },
        [&](int k, int n, uint32_t(&out)[4]) { rb.read(out, k * 16, n * 16); });
  } else {
    store_acc(staging, p, row, 0, lane);
    warp_sync();  // p is staged
    mma_nn(acc, staging, row, b, b_col, lane);
    warp_sync();  // all lanes are done with it
  }
}

}  // namespace portattn::sm80
