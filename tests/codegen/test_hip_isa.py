"""The readers of AMD machine code find what is planted in a kernel: spills, matrix work, loops and narrow loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import code_object
import hip_isa
import hip_tools

ROOT = Path(__file__).resolve().parents[2]

# kernel_tidy: two matrix instructions of 32x32x8 and one 16-byte load in each round. kernel_spilling: more live values
# than the 64 registers that eight waves on a SIMD leave, and a narrow load. kernel_indexing: an array that registers
# cannot hold, being indexed at run time.
SOURCE = """\
#include <hip/hip_runtime.h>
using Half4 = _Float16 __attribute__((ext_vector_type(4)));
using Half8 = _Float16 __attribute__((ext_vector_type(8)));
using Acc = float __attribute__((ext_vector_type(16)));

extern "C" __global__ void kernel_tidy(const Half8* in, Acc* out, int rounds) {
  Acc acc = {};
#pragma clang loop unroll(disable)
  for (int i = 0; i < rounds; ++i) {
    Half8 v = in[i * 64 + threadIdx.x];
    acc = __builtin_amdgcn_mfma_f32_32x32x8f16(v.lo, v.lo, acc, 0, 0, 0);
    acc = __builtin_amdgcn_mfma_f32_32x32x8f16(v.hi, v.hi, acc, 0, 0, 0);
  }
  out[threadIdx.x] = acc;
}

extern "C" __global__ void __launch_bounds__(512, 8) kernel_spilling(const short* in, float* out) {
  float live[100];
#pragma unroll
  for (int i = 0; i < 100; ++i) live[i] = in[i * 512 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 100; ++i) asm volatile("" : "+v"(live[i]));
#pragma unroll
  for (int i = 0; i < 100; ++i) out[i * 512 + threadIdx.x] = live[99 - i] * live[i];
}

extern "C" __global__ void kernel_shared(float* out) {
  __shared__ float tile[1000];
  tile[threadIdx.x] = out[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[999 - threadIdx.x];
}

extern "C" __global__ void kernel_indexing(const int* in, int* out) {
  int values[40];
  for (int i = 0; i < 40; ++i) values[i] = in[i];
  for (int i = 0; i < 40; ++i) values[in[i + threadIdx.x] % 40] += i;
  for (int i = 0; i < 40; ++i) out[i * 64 + threadIdx.x] = values[i];
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An object with the kernels for gfx942, and its report beside it."""
    toolchain = hip_tools.toolchain()
    folder = tmp_path_factory.mktemp("isa")
    (folder / "kernels.hip").write_text(SOURCE)
    command = [sys.executable, ROOT / "cmake" / "hip_report.py", toolchain.compiler, *toolchain.flags]
    command += ["--offload-arch=gfx942", "-O3", "--no-offload-compress", "-c", folder / "kernels.hip"]
    done = subprocess.run([*command, "-o", folder / "kernels.o"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "registers spill" in done.stderr and "kernel_spilling" in done.stderr and "kernel_tidy" not in done.stderr
    return folder / "kernels.o"


def test_report_tells_registers_spills_and_memory(compiled: Path) -> None:
    report = json.loads(Path(f"{compiled}.resources.json").read_text())
    kernels = {kernel["symbol"]: code_object.KernelResources(**kernel) for kernel in report}
    assert set(kernels) == {"kernel_tidy", "kernel_spilling", "kernel_shared", "kernel_indexing"}
    tidy, spilling, shared = (kernels[f"kernel_{name}"] for name in ("tidy", "spilling", "shared"))
    assert tidy.arch == "gfx942" and not tidy.spills and 16 < tidy.vgprs < 64
    assert spilling.spills and spilling.vgpr_spills > 0 and spilling.scratch_bytes > 0 and spilling.threads == 512
    assert shared.lds_bytes == 4000 and not shared.spills


def test_loops_hold_their_matrix_work_and_wide_loads(compiled: Path) -> None:
    (code,) = code_object.code_objects(compiled)
    body = hip_isa.disassemble(code)["kernel_tidy"]
    (loop,) = hip_isa.innermost(hip_isa.loops(body))
    assert hip_isa.multiply_adds(loop) == 2 * 32 * 32 * 8
    assert [instruction.access_bytes for instruction in loop if instruction.is_load] == [16]
    assert hip_isa.narrow_loads(loop) == []


def test_narrow_loads_are_found(compiled: Path) -> None:
    (code,) = code_object.code_objects(compiled)
    narrow = hip_isa.narrow_loads(hip_isa.disassemble(code)["kernel_spilling"])
    assert sum(load.mnemonic.startswith("global_load") for load in narrow) == 100
    assert {load.access_bytes for load in narrow if load.mnemonic.startswith("global_load")} == {2}


def test_private_memory_is_found(compiled: Path) -> None:
    (code,) = code_object.code_objects(compiled)
    bodies = hip_isa.disassemble(code)
    users = {name for name, body in bodies.items() if hip_isa.private_accesses(body)}
    assert users == {"kernel_spilling", "kernel_indexing"}


def test_matrix_work_of_every_shape() -> None:
    work = {
        "v_mfma_f32_32x32x8_bf16_1k": 32 * 32 * 8,
        "v_mfma_f32_16x16x16_f16": 16**3,
        "v_mfma_f32_4x4x4_16b_f16": 4 * 4 * 4 * 16,
        "v_mfma_f32_16x16x4_4b_f32": 16 * 16 * 4 * 4,
        "v_mfma_f64_16x16x4_f64": 16 * 16 * 4,
        "v_add_f32": 0,
    }
    assert {name: hip_isa.Instruction(0, name, "").multiply_adds for name in work} == work
