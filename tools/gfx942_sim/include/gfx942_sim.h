/* Runs compiled gfx942 code objects on the CPU.
 *
 * Host memory is device memory: a kernel's pointers are addresses of this process, and a kernel may only touch memory
 * that was registered. Every function that can fail returns a gfxsim_status; gfxsim_last_error() then says, for the
 * calling thread, what was given, what is allowed and where (kernel, program counter, instruction, lane, address).
 * Nothing here is global but the set of registered memory: objects and launches may be used from many threads. */
#ifndef GFX942_SIM_H_
#define GFX942_SIM_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gfxsim_status {
  GFXSIM_OK = 0,
  GFXSIM_INVALID_ARGUMENT = 1,    /* of the call itself: a null pointer, an impossible block size */
  GFXSIM_INVALID_OBJECT = 2,      /* not a code object this simulator can load */
  GFXSIM_NOT_FOUND = 3,           /* no such kernel, symbol or allocation */
  GFXSIM_UNKNOWN_INSTRUCTION = 4, /* the kernel can reach one that is not modelled; nothing was executed */
  GFXSIM_MEMORY_FAULT = 5,        /* access outside registered memory, LDS or a lane's scratch */
  GFXSIM_RACE = 6,                /* two waves touch one LDS dword, one of them writes, with no barrier between */
  GFXSIM_HAZARD = 7,              /* a register or LDS dword is used before the s_waitcnt that covers its load, or
                                     before the instructions or s_nop that its writer needs */
  GFXSIM_HANG = 8,                /* instruction limit reached, or waves wait at a barrier for waves that ended */
  GFXSIM_TRAP = 9,                /* the kernel executed s_trap, or wrote what hardware would not accept */
  GFXSIM_TOOL_MISSING = 10        /* libLLVM with the AMDGPU target was not found: see GFX942_SIM_LLVM */
} gfxsim_status;

typedef struct gfxsim_object gfxsim_object;
typedef struct gfxsim_kernel gfxsim_kernel; /* belongs to its object */

/* ---- code objects ---- */

/* `bytes`: one ELF for gfx942 or gfx950, as out of an offload bundle; copied. Kernels are disassembled, by libLLVM, and
 * decoded when they are first launched, which takes milliseconds. */
gfxsim_status gfxsim_object_load(const void* bytes, size_t size, gfxsim_object** object);
void gfxsim_object_free(gfxsim_object* object);
size_t gfxsim_object_kernel_count(const gfxsim_object* object);
const gfxsim_kernel* gfxsim_object_kernel_at(const gfxsim_object* object, size_t index); /* null past the end */
gfxsim_status gfxsim_object_kernel(const gfxsim_object* object, const char* name, const gfxsim_kernel** kernel);
/* A __device__ or __constant__ variable: its address in this process. `size` may be null. */
gfxsim_status gfxsim_object_symbol(const gfxsim_object* object, const char* name, void** address, size_t* size);

typedef struct gfxsim_argument {
  const char* kind; /* as in the metadata: "by_value", "global_buffer", "hidden_block_count_x", ... */
  uint32_t offset;  /* in the kernel argument block */
  uint32_t size;
} gfxsim_argument;

typedef struct gfxsim_kernel_info {
  const char* name;
  uint32_t kernarg_bytes;          /* explicit and hidden arguments */
  uint32_t explicit_kernarg_bytes; /* what a launch must give; the simulator fills in the hidden ones */
  uint32_t static_lds_bytes;
  uint32_t scratch_bytes; /* a lane */
  uint32_t max_threads;   /* a block, from __launch_bounds__ */
  uint32_t vgprs, agprs, sgprs, vgpr_spills, sgpr_spills;
  uint32_t argument_count;
  const gfxsim_argument* arguments;
} gfxsim_kernel_info;

const gfxsim_kernel_info* gfxsim_kernel_get_info(const gfxsim_kernel* kernel);

/* ---- memory ---- */

/* Lets kernels access [address, address + bytes); a read-only range faults on a store. Ranges must not overlap. `name`
 * is copied and shown by faults. Memory of no bytes is accepted and does nothing. */
gfxsim_status gfxsim_memory_register(const void* address, size_t bytes, int writable, const char* name);
gfxsim_status gfxsim_memory_unregister(const void* address);

/* Asked, from any thread, about an address in no registered range: returns 0 if kernels may not touch it, else 1 and
 * the range around it that they may, which is taken as registered until the launch ends. Null (the default) allows
 * registered memory only. For callers that do not know every allocation: theirs answers from /proc/self/maps. */
typedef int (*gfxsim_memory_lookup)(uintptr_t address, uintptr_t* begin, uintptr_t* end, int* writable);
void gfxsim_memory_set_lookup(gfxsim_memory_lookup lookup);

/* ---- launches ---- */

/* Classes of instructions: the counters of a report, and the input of a cost model. */
typedef enum gfxsim_class {
  GFXSIM_CLASS_SALU = 0,
  GFXSIM_CLASS_SMEM = 1,   /* scalar loads */
  GFXSIM_CLASS_BRANCH = 2, /* branches, calls, end of program */
  GFXSIM_CLASS_BARRIER = 3,
  GFXSIM_CLASS_WAIT = 4, /* s_waitcnt, s_nop, s_sleep */
  GFXSIM_CLASS_VALU = 5,
  GFXSIM_CLASS_VALU_64 = 6, /* double precision */
  GFXSIM_CLASS_TRANS = 7,   /* exp, log, rcp, rsq, sqrt, sin, cos */
  GFXSIM_CLASS_MFMA = 8,
  GFXSIM_CLASS_ACC_MOVE = 9, /* v_accvgpr_read/write */
  GFXSIM_CLASS_LDS_READ = 10,
  GFXSIM_CLASS_LDS_WRITE = 11,
  GFXSIM_CLASS_LDS_PERMUTE = 12, /* ds_bpermute, ds_permute, ds_swizzle: no memory touched */
  GFXSIM_CLASS_LDS_ATOMIC = 13,
  GFXSIM_CLASS_VMEM_LOAD = 14, /* global, flat and buffer */
  GFXSIM_CLASS_VMEM_STORE = 15,
  GFXSIM_CLASS_VMEM_ATOMIC = 16,
  GFXSIM_CLASS_VMEM_LDS = 17, /* loads from global memory straight into LDS */
  GFXSIM_CLASS_SCRATCH = 18,
  GFXSIM_CLASS_COUNT = 19
} gfxsim_class;

const char* gfxsim_class_name(gfxsim_class cls);

/* One executed instruction of one wave. */
typedef struct gfxsim_event {
  uint32_t block[3];
  uint32_t wave;
  gfxsim_class cls;
  uint64_t pc; /* address in the object */
  uint64_t exec;
  const char* text;
} gfxsim_event;

typedef struct gfxsim_options {
  uint64_t seed;             /* 0: waves of a block take turns; else they run in a random order made from the seed */
  uint64_t max_instructions; /* a wave may execute this many; 0: 1 << 32 */
  uint32_t threads;          /* blocks run on this many threads; 0: one per CPU of this process */
  int check_races;           /* LDS accesses of different waves with no barrier between */
  int check_waits;           /* s_waitcnt before the use of what a load brings; s_nop where hardware wants it */
  void (*trace)(void* context, const gfxsim_event* event); /* may be null; called from every thread */
  void* trace_context;
} gfxsim_options;

/* All checks on, turns, a thread per CPU. */
gfxsim_options gfxsim_default_options(void);

typedef struct gfxsim_report {
  uint64_t blocks, waves, instructions;
  uint64_t instructions_of_class[GFXSIM_CLASS_COUNT];
  uint64_t mfma_flops; /* 2 * m * n * k of each matrix instruction */
  double seconds;
} gfxsim_report;

/* Runs `grid` blocks of `block` threads to their end. `kernarg` holds the explicit arguments at their offsets and is
 * copied. `options` may be null (the default ones) and so may `report`. Registers, LDS and scratch start with a pattern
 * that is a NaN as a float and out of bounds as an address. After a failure memory holds what was written up to it. */
gfxsim_status gfxsim_launch(const gfxsim_kernel* kernel, const uint32_t grid[3], const uint32_t block[3],
                            uint32_t dynamic_lds_bytes, const void* kernarg, size_t kernarg_bytes,
                            const gfxsim_options* options, gfxsim_report* report);

/* Why the last failed call of this thread failed; never null. */
const char* gfxsim_last_error(void);

#ifdef __cplusplus
}
#endif

#endif /* GFX942_SIM_H_ */
