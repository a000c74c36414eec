// What a kernel does with tiles. Operands of a product are named by how their K dimension lies:
//   mma_nt  acc[M, N] += A[M, K] . B[N, K]^T      (scores: q . k^T)
//   mma_nn  acc[M, N] += A[M, K] . B[K, N]        (dq: ds . k)
//   mma_tn  acc[M, N] += A[K, M]^T . B[K, N]      (dv: p^T . do)
//   mma_rn  acc[M, N] += P[M, K] . B[K, N]        (o: p . v, with p an accumulator tile of this very warp; an arch
//                                                   that cannot feed it from registers passes it through `staging`)
// and store_acc(smem, acc, row, col, lane) rounds acc into a shared tile. a_row, b_row and *_col are the warp's corner
// in the shared tiles. Each arch supplies them (tile/arch_select.cuh), with the copies.
#pragma once

#include "device/sync.cuh"
#include "tile/reg_tile.cuh"
#include "tile/smem_tile.cuh"

namespace portattn {

// A warp's place in a block whose warps tile an [M, N] accumulator WarpsM x WarpsN.
template <int M, int N, int WarpsM, int WarpsN>
struct WarpTiling {
  static constexpr int kM = M / WarpsM;
  static constexpr int kN = N / WarpsN;
  static_assert(kM * WarpsM == M && kN * WarpsN == N, "warps tile the block exactly");
  int row, col;
  PA_DEVICE explicit WarpTiling(int warp) : row(warp / WarpsN * kM), col(warp % WarpsN * kN) {}
};

}  // namespace portattn
