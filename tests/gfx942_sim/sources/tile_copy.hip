// A tile from global memory through LDS, 16 bits an element.
#include "tile/arch_select.cuh"
#include "tile/smem_tile.cuh"

namespace portattn {

constexpr int kRows = 32, kCols = 64, kThreads = 128;

// Leaves in `out` [kRows, kCols] what the tile holds.
extern "C" __global__ void __launch_bounds__(kThreads)
    copy_tile(const bf16* src, int64_t row_stride, int rows, int cols, bf16* out) {
  using Tile = SmemTile<bf16, kRows, kCols>;
  __shared__ alignas(16) char smem[Tile::kBytes];
  const int tid = static_cast<int>(threadIdx.x);
  const Tile tile(smem);
  load_tile_async<kThreads>(tile, src, row_stride, rows, cols, tid);
  block_sync();
  for (int i = tid; i < kRows * kCols; i += kThreads) out[i] = tile.at(i / kCols, i % kCols);
}

}  // namespace portattn
