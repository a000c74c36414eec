// Lanes that look at other lanes: data-parallel primitives, permutations, ballots, readlane.
#include <hip/hip_runtime.h>

#define KERNEL extern "C" __global__ __launch_bounds__(64) void

// Lanes without a source keep -7.
template <int kControl>
__device__ int moved(int value) {
  return __builtin_amdgcn_update_dpp(-7, value, kControl, 0xf, 0xf, false);
}

KERNEL move_dpp(int* out) {
  const int lane = threadIdx.x, value = lane * 3 + 1;
  out[lane] = moved<0x111>(value);        // row_shr:1
  out[64 + lane] = moved<0x142>(value);   // row_bcast:15
  out[128 + lane] = moved<0x143>(value);  // row_bcast:31
  out[192 + lane] = moved<0x1b>(value);   // quad_perm:[3,2,1,0]
  out[256 + lane] = moved<0x140>(value);  // row_mirror
  out[320 + lane] = moved<0x104>(value);  // row_shl:4
  out[384 + lane] = moved<0x128>(value);  // row_ror:8
  out[448 + lane] = moved<0x141>(value);  // row_half_mirror
  out[512 + lane] = moved<0x138>(value);  // wave_shr:1
  out[576 + lane] = moved<0x130>(value);  // wave_shl:1
  out[640 + lane] = moved<0x153>(value);  // row_newbcast:3
  out[704 + lane] = __builtin_amdgcn_update_dpp(-7, value, 0x111, 0xa, 0x3, true);  // masks, zero for lane -1
}

KERNEL permute(int* out) {
  const int lane = threadIdx.x, value = lane * 3 + 1;
  out[lane] = __builtin_amdgcn_ds_swizzle(value, 0x401f);        // swap halves of 32 lanes
  out[64 + lane] = __builtin_amdgcn_ds_swizzle(value, 0x80b1);   // quad [1,0,3,2]
  out[128 + lane] = __builtin_amdgcn_ds_permute((63 - lane) * 4, value);
  out[192 + lane] = __shfl(value, lane ^ 5, 64);
  out[256 + lane] = __shfl_down(value, 3, 32);
  out[320 + lane] = __shfl_up(value, 5, 64);
  out[384 + lane] = __builtin_amdgcn_ds_swizzle(value, 0x3c5);   // and 5, or 30, xor 0
}

KERNEL permute_under_mask(int* out) {
  const int lane = threadIdx.x;
  if (lane % 3 == 0) out[lane] = __builtin_amdgcn_ds_bpermute((lane ^ 1) * 4, lane + 100);
}

KERNEL read_lanes(int* out) {
  const int lane = threadIdx.x, value = lane * 7;
  out[lane] = __builtin_amdgcn_readfirstlane(value + 3);
  out[64 + lane] = __builtin_amdgcn_readlane(value, 37);
  const unsigned long long votes = __ballot(lane * 5 % 3 == 1);
  out[128 + lane] = static_cast<int>(votes >> 32);
  out[192 + lane] = static_cast<int>(votes);
  out[256 + lane] = __popcll(votes & ((1ull << lane) - 1));
  out[320 + lane] = __any(lane == 63);
  out[384 + lane] = __all(lane < 63);
  out[448 + lane] = __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u));
  if (lane >= 20) out[512 + lane] = __builtin_amdgcn_readfirstlane(value);
}
