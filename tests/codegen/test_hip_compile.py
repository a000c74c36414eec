"""Every AMD kernel compiles for gfx942 without a spill, within the registers that its tuning promises, and into a
library that is sealed. For gfx950 one instance of every kind compiles. Needs no GPU and no ROCm (hip_tools)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

import code_object
import hip_isa
import hip_resources
import hip_tools

HIP_SYMBOLS = r"(__)?hip\w+"
# Beside these, every kernel of one pair of head dims with 16-bit and with 32-bit elements.
GFX950_SOURCES = [
    f"{name}.cu" for name in ("plugin", "thd/seq_plan", "unfused/fwd", "unfused/bwd", "bwd_common/bias_grad")
]
GFX950_INSTANCES = ["fmha_*_hd128x128_bf16_gfx942.cu", "fmha_*_hd64x64_fp32_gfx942.cu"]


@pytest.fixture(scope="module")
def hip_build() -> Path:
    return hip_tools.build("gfx942", "portattn_hip")


@pytest.fixture(scope="module")
def kernels(hip_build: Path) -> dict[str, code_object.KernelResources]:
    return hip_resources.reports(hip_build)


def test_every_instance_is_there(hip_build: Path, kernels: dict[str, code_object.KernelResources]) -> None:
    generated = {path.stem for path in (hip_build / "generated" / "gfx942").glob("*.cu")} - {"fmha_table"}
    assert len(generated) > 50 and generated <= set(kernels)
    assert {"SeqPlanKernel"} < set(kernels) - generated


def test_no_kernel_spills(kernels: dict[str, code_object.KernelResources]) -> None:
    spilling = [f"{name}: {kernel}" for name, kernel in kernels.items() if kernel.spills]
    assert not spilling, "\n".join(spilling)


def private_memory_users(objects: Iterable[code_object.CodeObject]) -> list[str]:
    """Kernels whose machine code touches a lane's own memory, whatever their notes say of spills."""
    return [
        symbol
        for code in objects
        for symbol, body in hip_isa.disassemble(code).items()
        if hip_isa.private_accesses(body)
    ]


def test_no_kernel_uses_private_memory(hip_build: Path) -> None:
    objects = list(code_object.code_objects(hip_build / "lib" / "libportattn_hip.so"))
    assert len(objects) > 50
    assert private_memory_users(objects) == []


def test_kernels_fit_where_their_tuning_wants_them(kernels: dict[str, code_object.KernelResources]) -> None:
    """Registers leave room for the waves of min_blocks blocks, static LDS for a block."""
    faults = []
    for name, kernel in kernels.items():
        waves = hip_resources.waves_a_simd(name, kernel)
        if kernel.vgprs > hip_resources.register_limit(waves):
            faults.append(f"{name}: {kernel.vgprs} registers, but {waves} waves on a SIMD leave each fewer")
        if kernel.lds_bytes > hip_resources.LDS_BYTES[kernel.arch]:
            faults.append(f"{name}: {kernel.lds_bytes} bytes of LDS")
    assert not faults, "\n".join(faults)


def test_registers_are_the_recorded_ones(
    request: pytest.FixtureRequest, kernels: dict[str, code_object.KernelResources]
) -> None:
    version = hip_resources.compiler_version(hip_tools.toolchain().compiler)
    now = {"clang": version, "kernels": hip_resources.registers(kernels)}
    if request.config.getoption("--update-golden", default=False):
        hip_resources.GOLDEN.write_text(json.dumps(now, indent=1) + "\n")
    golden = json.loads(hip_resources.GOLDEN.read_text())
    if version != golden["clang"]:
        pytest.skip(f"recorded with clang {golden['clang']}, this is {version}")
    changed = [
        f"{name}: was {golden['kernels'][name]}, is {now['kernels'][name]}"
        for name in sorted(golden["kernels"].keys() & now["kernels"].keys())
        if golden["kernels"][name] != now["kernels"][name]
    ]
    assert not changed, "\n".join([*changed, "if intended: run this test with --update-golden"])


def test_library_exports_its_table_and_leaves_the_runtime_to_be_found(hip_build: Path) -> None:
    library = hip_build / "lib" / "libportattn_hip.so"
    printed = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout
    names = {kind: set(re.findall(rf" {kind} (\w+)$", printed, re.MULTILINE)) for kind in "TU"}
    assert names["T"] == {"portattn_plugin"}
    undefined = {name for name in names["U"] if re.fullmatch(HIP_SYMBOLS, name)}
    assert {"__hipRegisterFatBinary", "hipLaunchKernel"} < undefined
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    assert "amdhip" not in needed and "RUNPATH" not in needed and "RPATH" not in needed


def test_gfx950_compiles_too() -> None:
    with hip_tools.configured("gfx950") as build:
        generated = build / "generated" / "gfx942"
        instances = [path for pattern in GFX950_INSTANCES for path in sorted(generated.glob(pattern))]
        assert len(instances) >= 8
        sources = [f"hipified/{name}" for name in GFX950_SOURCES] + [
            f"generated/gfx942/{path.name}" for path in instances
        ]
        hip_tools.make(build, *(f"cmake/hip_plugin/objects/{source}.o" for source in sources))
    kernels = hip_resources.reports(build)
    assert kernels and {kernel.arch for kernel in kernels.values()} == {"gfx950"}
    assert [str(kernel) for kernel in kernels.values() if kernel.spills] == []
