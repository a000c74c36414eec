// sm_90: wgmma, the matrix product of a warpgroup: D [64, N] += A [64, 16] . B [16, N] in fp32 from bf16 or fp16, A in
// registers or shared memory, B in shared memory. Each warp's share of D is AccTile<float, 16, N> of arch/sm80, and
// its share of a 16-bit A from registers is that tile's columns, 16 a step, packed.
// PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate":
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-instructions
#pragma once

#include "arch/sm90/barrier.cuh"
#include "arch/sm90/descriptor.cuh"

namespace portattn::sm90 {

// Registers that products read or write are ordered before the products that follow.
PA_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
PA_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most Pending committed groups are in flight.
template <int Pending>
PA_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}
// Keeps reads and writes of accumulators that a product owns from moving across this point.
template <int Size>
PA_DEVICE void pin(float (&accumulators)[Size]) {
  PA_UNROLL
  for (int i = 0; i < Size; ++i) asm volatile("" : "+f"(accumulators[i])::"memory");
}

// Four 8 x 8 matrices of 16-bit elements to shared memory: lane l gives the address of row l % 8 of matrix l / 8. A
// fragment of A (arch/sm80/layout.cuh) goes to rows l % 16, columns 8 (l / 16).
PA_DEVICE void store_matrices(uint32_t address, const uint32_t (&x)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x[0]), "r"(x[1]),
               "r"(x[2]), "r"(x[3])
               : "memory");
}

// The same with each matrix transposed: a fragment of A goes to columns l % 16, rows 8 (l / 16).
PA_DEVICE void store_matrices_transposed(uint32_t address, const uint32_t (&x)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x[0]),
               "r"(x[1]), "r"(x[2]), "r"(x[3])
               : "memory");
}

// Two floats of shared memory, asked for here and not later: products do not move across a volatile load.
PA_DEVICE float2 load_pair(const float* pair) {
  float2 x;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "r"(smem_address(pair)) : "memory");
  return x;
}

// clang-format off
#define PA_WGMMA_R0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define PA_WGMMA_R1 "%8, %9, %10, %11, %12, %13, %14, %15"
#define PA_WGMMA_R2 "%16, %17, %18, %19, %20, %21, %22, %23"
#define PA_WGMMA_R3 "%24, %25, %26, %27, %28, %29, %30, %31"
#define PA_WGMMA_R4 "%32, %33, %34, %35, %36, %37, %38, %39"
#define PA_WGMMA_R5 "%40, %41, %42, %43, %44, %45, %46, %47"
#define PA_WGMMA_R6 "%48, %49, %50, %51, %52, %53, %54, %55"
#define PA_WGMMA_R7 "%56, %57, %58, %59, %60, %61, %62, %63"
#define PA_WGMMA_R8 "%64, %65, %66, %67, %68, %69, %70, %71"
#define PA_WGMMA_R9 "%72, %73, %74, %75, %76, %77, %78, %79"
#define PA_WGMMA_R10 "%80, %81, %82, %83, %84, %85, %86, %87"
#define PA_WGMMA_R11 "%88, %89, %90, %91, %92, %93, %94, %95"
#define PA_WGMMA_R12 "%96, %97, %98, %99, %100, %101, %102, %103"
#define PA_WGMMA_R13 "%104, %105, %106, %107, %108, %109, %110, %111"
#define PA_WGMMA_R14 "%112, %113, %114, %115, %116, %117, %118, %119"
#define PA_WGMMA_R15 "%120, %121, %122, %123, %124, %125, %126, %127"
#define PA_WGMMA_D(i) "+f"(d[8 * i]), "+f"(d[8 * i + 1]), "+f"(d[8 * i + 2]), "+f"(d[8 * i + 3]), \
                      "+f"(d[8 * i + 4]), "+f"(d[8 * i + 5]), "+f"(d[8 * i + 6]), "+f"(d[8 * i + 7])
// clang-format on

// The two instructions of one N and type: A in shared memory, or in registers. n0 to n6 number the operands after D's.
// An operand is transposed if its descriptor is a descriptor_transposed().
#define PA_WGMMA(N, TYPE, NAME, REGISTERS, OUTPUTS, n0, n1, n2, n3, n4, n5, n6)                                       \
  template <int TransB, int TransA = 0>                                                                               \
  PA_DEVICE void wgmma(float(&d)[N / 2], uint64_t a, uint64_t b, int accumulate, TYPE) {                              \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #n2                                                             \
                 ", 0;\n"                                                                                             \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." NAME "." NAME " {" REGISTERS "}, %" #n0 ", %" #n1  \
                 ", p, 1, 1, %" #n4 ", %" #n3 ";\n}\n"                                                                \
                 : OUTPUTS                                                                                            \
                 : "l"(a), "l"(b), "r"(accumulate), "n"(TransB), "n"(TransA));                                        \
  }                                                                                                                   \
  template <int TransB>                                                                                               \
  PA_DEVICE void wgmma(float(&d)[N / 2], const uint32_t(&a)[4], uint64_t b, int accumulate, TYPE) {                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #n5                                                             \
                 ", 0;\n"                                                                                             \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." NAME "." NAME " {" REGISTERS "}, {%" #n0 ", %" #n1 \
                 ", %" #n2 ", %" #n3 "}, %" #n4 ", p, 1, 1, %" #n6 ";\n}\n"                                           \
                 : OUTPUTS                                                                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TransB));                 \
  }
// clang-format off
#define PA_WGMMA_REGS32 PA_WGMMA_R0 ", " PA_WGMMA_R1
#define PA_WGMMA_OUTS32 PA_WGMMA_D(0), PA_WGMMA_D(1)
PA_WGMMA(32, bf16, "bf16", PA_WGMMA_REGS32, PA_WGMMA_OUTS32, 16, 17, 18, 19, 20, 21, 22)
PA_WGMMA(32, half, "f16", PA_WGMMA_REGS32, PA_WGMMA_OUTS32, 16, 17, 18, 19, 20, 21, 22)
#define PA_WGMMA_REGS64 PA_WGMMA_R0 ", " PA_WGMMA_R1 ", " PA_WGMMA_R2 ", " PA_WGMMA_R3
#define PA_WGMMA_OUTS64 PA_WGMMA_D(0), PA_WGMMA_D(1), PA_WGMMA_D(2), PA_WGMMA_D(3)
PA_WGMMA(64, bf16, "bf16", PA_WGMMA_REGS64, PA_WGMMA_OUTS64, 32, 33, 34, 35, 36, 37, 38)
PA_WGMMA(64, half, "f16", PA_WGMMA_REGS64, PA_WGMMA_OUTS64, 32, 33, 34, 35, 36, 37, 38)
#define PA_WGMMA_REGS80 PA_WGMMA_R0 ", " PA_WGMMA_R1 ", " PA_WGMMA_R2 ", " PA_WGMMA_R3 ", " PA_WGMMA_R4
#define PA_WGMMA_OUTS80 PA_WGMMA_D(0), PA_WGMMA_D(1), PA_WGMMA_D(2), PA_WGMMA_D(3), PA_WGMMA_D(4)
PA_WGMMA(80, bf16, "bf16", PA_WGMMA_REGS80, PA_WGMMA_OUTS80, 40, 41, 42, 43, 44, 45, 46)
PA_WGMMA(80, half, "f16", PA_WGMMA_REGS80, PA_WGMMA_OUTS80, 40, 41, 42, 43, 44, 45, 46)
#define PA_WGMMA_REGS96 PA_WGMMA_R0 ", " PA_WGMMA_R1 ", " PA_WGMMA_R2 ", " PA_WGMMA_R3 ", " PA_WGMMA_R4 ", " PA_WGMMA_R5
#define PA_WGMMA_OUTS96 PA_WGMMA_D(0), PA_WGMMA_D(1), PA_WGMMA_D(2), PA_WGMMA_D(3), PA_WGMMA_D(4), PA_WGMMA_D(5)
PA_WGMMA(96, bf16, "bf16", PA_WGMMA_REGS96, PA_WGMMA_OUTS96, 48, 49, 50, 51, 52, 53, 54)
PA_WGMMA(96, half, "f16", PA_WGMMA_REGS96, PA_WGMMA_OUTS96, 48, 49, 50, 51, 52, 53, 54)
#define PA_WGMMA_REGS128 PA_WGMMA_R0 ", " PA_WGMMA_R1 ", " PA_WGMMA_R2 ", " PA_WGMMA_R3 ", " PA_WGMMA_R4 ", " PA_WGMMA_R5 ", " PA_WGMMA_R6 ", " PA_WGMMA_R7
#define PA_WGMMA_OUTS128 PA_WGMMA_D(0), PA_WGMMA_D(1), PA_WGMMA_D(2), PA_WGMMA_D(3), PA_WGMMA_D(4), PA_WGMMA_D(5), PA_WGMMA_D(6), PA_WGMMA_D(7)
PA_WGMMA(128, bf16, "bf16", PA_WGMMA_REGS128, PA_WGMMA_OUTS128, 64, 65, 66, 67, 68, 69, 70)
PA_WGMMA(128, half, "f16", PA_WGMMA_REGS128, PA_WGMMA_OUTS128, 64, 65, 66, 67, 68, 69, 70)
#define PA_WGMMA_REGS144 PA_WGMMA_R0 ", " PA_WGMMA_R1 ", " PA_WGMMA_R2 ", " PA_WGMMA_R3 ", " PA_WGMMA_R4 ", " PA_WGMMA_R5 ", " PA_WGMMA_R6 ", " PA_WGMMA_R7 ", " PA_WGMMA_R8
#define PA_WGMMA_OUTS144 PA_WGMMA_D(0), PA_WGMMA_D(1), PA_WGMMA_D(2), PA_WGMMA_D(3), PA_WGMMA_D(4), PA_WGMMA_D(5), PA_WGMMA_D(6), PA_WGMMA_D(7), PA_WGMMA_D(8)
PA_WGMMA(144, bf16, "bf16", PA_WGMMA_REGS144, PA_WGMMA_OUTS144, 72, 73, 74, 75, 76, 77, 78)
PA_WGMMA(144, half, "f16", PA_WGMMA_REGS144, PA_WGMMA_OUTS144, 72, 73, 74, 75, 76, 77, 78)
#define PA_WGMMA_REGS192 PA_WGMMA_R0 ", " PA_WGMMA_R1 ", " PA_WGMMA_R2 ", " PA_WGMMA_R3 ", " PA_WGMMA_R4 ", " PA_WGMMA_R5 ", " PA_WGMMA_R6 ", " PA_WGMMA_R7 ", " PA_WGMMA_R8 ", " PA_WGMMA_R9 ", " PA_WGMMA_R10 ", " PA_WGMMA_R11
#define PA_WGMMA_OUTS192 PA_WGMMA_D(0), PA_WGMMA_D(1), PA_WGMMA_D(2), PA_WGMMA_D(3), PA_WGMMA_D(4), PA_WGMMA_D(5), PA_WGMMA_D(6), PA_WGMMA_D(7), PA_WGMMA_D(8), PA_WGMMA_D(9), PA_WGMMA_D(10), PA_WGMMA_D(11)
PA_WGMMA(192, bf16, "bf16", PA_WGMMA_REGS192, PA_WGMMA_OUTS192, 96, 97, 98, 99, 100, 101, 102)
PA_WGMMA(192, half, "f16", PA_WGMMA_REGS192, PA_WGMMA_OUTS192, 96, 97, 98, 99, 100, 101, 102)
#define PA_WGMMA_REGS256 PA_WGMMA_R0 ", " PA_WGMMA_R1 ", " PA_WGMMA_R2 ", " PA_WGMMA_R3 ", " PA_WGMMA_R4 ", " PA_WGMMA_R5 ", " PA_WGMMA_R6 ", " PA_WGMMA_R7 ", " PA_WGMMA_R8 ", " PA_WGMMA_R9 ", " PA_WGMMA_R10 ", " PA_WGMMA_R11 ", " PA_WGMMA_R12 ", " PA_WGMMA_R13 ", " PA_WGMMA_R14 ", " PA_WGMMA_R15
#define PA_WGMMA_OUTS256 PA_WGMMA_D(0), PA_WGMMA_D(1), PA_WGMMA_D(2), PA_WGMMA_D(3), PA_WGMMA_D(4), PA_WGMMA_D(5), PA_WGMMA_D(6), PA_WGMMA_D(7), PA_WGMMA_D(8), PA_WGMMA_D(9), PA_WGMMA_D(10), PA_WGMMA_D(11), PA_WGMMA_D(12), PA_WGMMA_D(13), PA_WGMMA_D(14), PA_WGMMA_D(15)
PA_WGMMA(256, bf16, "bf16", PA_WGMMA_REGS256, PA_WGMMA_OUTS256, 128, 129, 130, 131, 132, 133, 134)
PA_WGMMA(256, half, "f16", PA_WGMMA_REGS256, PA_WGMMA_OUTS256, 128, 129, 130, 131, 132, 133, 134)
// clang-format on

#undef PA_WGMMA

}  // namespace portattn::sm90
