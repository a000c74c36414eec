"""Every CUDA kernel compiles for every arch without a spill, a stack frame or a serialised tensor core instruction.

Needs nvcc and no GPU. Builds the library in the build folder that already has it, or else in build/cuda, and reads the
assembler's reports there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import ptxas

ROOT = Path(__file__).resolve().parents[2]
NVCC = shutil.which("nvcc", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc is neither in PATH nor in /usr/local/cuda/bin")

REPORT = """\
ptxas info    : Compiling entry function '_ZN8portattn12kernel_entryINS_3fooEEEvNT_6ParamsE' for 'sm_90a'
ptxas info    : Function properties for _ZN8portattn12kernel_entryINS_3fooEEEvNT_6ParamsE
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 1072 bytes cmem[0]
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...
"""


def test_report_parser_sees_spills_stack_and_warnings() -> None:
    kernels, warnings = ptxas.parse(REPORT)
    assert len(kernels) == 1 and len(warnings) == 1
    kernel = kernels[0]
    assert (kernel.arch, kernel.registers, kernel.stack_bytes, kernel.spill_bytes) == ("sm_90a", 168, 8, 16)
    assert ptxas.short_names([kernel.symbol])[kernel.symbol] == "foo"


@pytest.fixture(scope="module")
def cuda_build() -> Path:
    made_by_setup = [ROOT / "build" / name for name in ("package", "package-make")]
    build = next((path for path in made_by_setup if (path / "cmake" / "cuda_plugin").exists()), ROOT / "build" / "cuda")
    if build.name == "cuda":
        subprocess.run(["cmake", "--preset", "cuda", f"-DCMAKE_CUDA_COMPILER={NVCC}"], cwd=ROOT, check=True)
    jobs = str(len(os.sched_getaffinity(0)))
    subprocess.run(["cmake", "--build", build, "--target", "portattn_cuda", "--parallel", jobs], check=True)
    return build


@needs_nvcc
def test_no_kernel_spills(cuda_build: Path) -> None:
    faults, seen = [], 0
    for path in ptxas.reports(cuda_build):
        kernels, warnings = ptxas.parse(path.read_text())
        seen += len(kernels)
        faults += [f"{path.name}: {line}" for line in warnings]
        faults += [str(kernel) for kernel in kernels if kernel.stack_bytes or kernel.spill_bytes]
    assert seen > 0
    assert not faults, "\n".join(faults)


@needs_nvcc
def test_registers_are_the_recorded_ones(cuda_build: Path) -> None:
    golden = json.loads(ptxas.GOLDEN.read_text())
    version = ptxas.nvcc_version(NVCC)
    if version != golden["nvcc"]:
        pytest.skip(f"recorded with nvcc {golden['nvcc']}, this is {version}")
    now = ptxas.registers(cuda_build)
    changed = [
        f"{name}: was {golden['registers'].get(name)}, is {now.get(name)}"
        for name in sorted(golden["registers"] | now)
        if golden["registers"].get(name) != now.get(name)
    ]
    hint = f"if intended: python tests/codegen/ptxas.py {cuda_build.relative_to(ROOT)}"
    assert not changed, "\n".join([*changed, hint])
