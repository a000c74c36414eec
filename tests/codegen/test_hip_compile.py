"""Every AMD kernel compiles for gfx942 without a spill, within the registers that its tuning promises, and into a
library that is sealed. The same for gfx950, without the library's seal. Needs no GPU and no ROCm (hip_tools)."""

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


def faults_of_resources(kernels: dict[str, code_object.KernelResources]) -> list[str]:
    """Kernels that spill, whose registers leave no room for the waves of min_blocks blocks, or whose static LDS is too
    large for a block."""
    faults = []
    for name, kernel in kernels.items():
        waves = hip_resources.waves_a_simd(name, kernel)
        if kernel.spills:
            faults.append(f"{name} spills: {kernel}")
        if kernel.vgprs > hip_resources.register_limit(waves):
            faults.append(f"{name}: {kernel.vgprs} registers, but {waves} waves on a SIMD leave each fewer")
        if kernel.lds_bytes > hip_resources.LDS_BYTES[kernel.arch]:
            faults.append(f"{name}: {kernel.lds_bytes} bytes of LDS")
    return faults


def test_no_kernel_spills_and_all_fit_where_their_tuning_wants_them(
    kernels: dict[str, code_object.KernelResources],
) -> None:
    assert faults_of_resources(kernels) == []


def library_code(build: Path) -> list[code_object.CodeObject]:
    return list(code_object.code_objects(build / "lib" / "libportattn_hip.so"))


def private_memory_users(objects: Iterable[code_object.CodeObject]) -> list[str]:
    """Kernels whose machine code touches a lane's own memory, whatever their notes say of spills."""
    return [
        symbol
        for code in objects
        for symbol, body in hip_isa.disassemble(code).items()
        if hip_isa.private_accesses(body)
    ]


def test_no_kernel_uses_private_memory(hip_build: Path) -> None:
    objects = library_code(hip_build)
    assert len(objects) > 50
    assert private_memory_users(objects) == []


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


def test_gfx950_holds_the_same_gates() -> None:
    build = hip_tools.build("gfx950", "portattn_hip")
    kernels = hip_resources.reports(build)
    assert len(kernels) > 50 and {kernel.arch for kernel in kernels.values()} == {"gfx950"}
    assert faults_of_resources(kernels) == []
    assert private_memory_users(library_code(build)) == []
