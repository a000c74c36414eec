// sm_90: barriers between the warps of a block that hand shared memory over to each other, and their share of
// registers. PTX ISA, "mbarrier", "bar", "setmaxnreg": https://docs.nvidia.com/cuda/parallel-thread-execution/
#pragma once

#include "arch/sm90/ring.cuh"
#include "device/types.cuh"

namespace portattn::sm90 {

// Is this the pass of the compiler for sm_90a? In others the instructions below do not exist.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kIsSm90a = true;
#else
constexpr bool kIsSm90a = false;
#endif

// A value that all lanes of the warp share, told to the compiler: what derives from it goes to uniform registers, where
// wgmma wants its descriptors.
PA_DEVICE int uniform(int x) { return __shfl_sync(0xffffffffu, x, 0); }

PA_DEVICE uint32_t smem_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// A barrier in shared memory that counts arrivals and the bytes of asynchronous copies. Phases alternate in parity.
struct alignas(8) Barrier {
  uint64_t state;

  PA_DEVICE void init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_address(this)), "r"(arrivals) : "memory");
  }
  PA_DEVICE void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_address(this)) : "memory");
  }
  // Arrives, and adds bytes that copies must bring before the phase completes.
  PA_DEVICE void arrive_expect(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_address(this)), "r"(bytes)
                 : "memory");
  }
  // Waits until the phase of this parity has completed. On a fresh barrier, parity 1 has.
  PA_DEVICE void wait(int parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "retry:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra retry;\n"
        "}\n" ::"r"(smem_address(this)),
        "r"(parity)
        : "memory");
  }
};

// Makes barrier.init visible to the copy engine; the block still has to synchronise.
PA_DEVICE void fence_barrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Orders this thread's ordinary writes to shared memory before its later wgmma and bulk copies.
PA_DEVICE void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Barriers of the block by number, counted in threads, multiples of 32; number 0 is block_sync()'s.
PA_DEVICE void named_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
PA_DEVICE void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Registers a thread of this warpgroup has from now on, a multiple of 8; all its warps execute it.
template <int Registers>
PA_DEVICE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
PA_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

}  // namespace portattn::sm90
