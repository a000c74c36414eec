// Inclusive scan over the threads of a block: op(value of thread 0, ..., value of this thread).
#pragma once

#include "device/sync.cuh"
#include "device/warp.cuh"

namespace portattn {

// The same over the lanes of one warp.
template <class V, class Op>
PA_DEVICE V warp_inclusive_scan(V v, int lane, Op op) {
  PA_UNROLL
  for (int step = 1; step < kWarpSize; step *= 2) {
    const V before = shuffle_from(v, lane >= step ? lane - step : lane);
    if (lane >= step) v = op(before, v);
  }
  return v;
}

template <class V>
struct BlockScan {
  V inclusive;  // over threads 0..tid
  V total;      // over the whole block
};

// All threads take part. `scratch` is shared memory for Threads / kWarpSize values, free again on return.
template <int Threads, class V, class Op>
PA_DEVICE BlockScan<V> block_inclusive_scan(V v, V* scratch, int tid, Op op) {
  constexpr int kWarps = Threads / kWarpSize;
  static_assert(kWarps * kWarpSize == Threads && (kWarps <= kWarpSize), "one warp scans the totals of all warps");
  const int warp = tid / kWarpSize, lane = tid % kWarpSize;
  v = warp_inclusive_scan(v, lane, op);
  if (lane == kWarpSize - 1) scratch[warp] = v;
  block_sync();  // every warp's total is written; every warp waits for all
  const V totals = warp_inclusive_scan(scratch[lane < kWarps ? lane : kWarps - 1], lane, op);
  const V before = shuffle_from(totals, warp > 0 ? warp - 1 : 0);
  const V total = shuffle_from(totals, kWarps - 1);
  block_sync();  // every warp has read the totals; scratch may be written again
  return {warp > 0 ? op(before, v) : v, total};
}

}  // namespace portattn
