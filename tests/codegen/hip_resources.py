"""Reads the resource reports that the HIP build keeps beside its objects (cmake/hip_report.py)."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import generate
import hip_toolchain
from code_object import KernelResources
from ptxas import short_names

GOLDEN = Path(__file__).parent / "golden_hip_resources.json"
TUNING = Path(generate.__file__).parent / "tuning"

SIMD_REGISTERS = 512  # of a lane, for all waves on a SIMD
SIMDS = 4
LDS_BYTES = {"gfx942": 64 * 1024, "gfx950": 160 * 1024}
FMHA = re.compile(r"fmha_(\w+)_hd(\d+x\d+)_(\w+)_(gfx\d+)")


def reports(build: Path) -> dict[str, KernelResources]:
    """Name of the kernel's struct -> its resources. The report of a source that is gone does not count."""
    found: list[KernelResources] = []
    objects = build / "cmake" / "hip_plugin" / "objects"
    for path in sorted(objects.rglob("*.o.resources.json")):
        source = build / path.relative_to(objects).as_posix().removesuffix(".o.resources.json")
        if source.exists():
            found += [KernelResources(**kernel) for kernel in json.loads(path.read_text())]
    names = short_names([kernel.symbol for kernel in found], str(hip_toolchain.find().tool("llvm-cxxfilt")))
    return dict(sorted((names[kernel.symbol], kernel) for kernel in found))


def waves_a_simd(name: str, kernel: KernelResources) -> int:
    """How many waves the tuning file wants on a SIMD: those of min_blocks blocks on the four of a compute unit."""
    match = FMHA.fullmatch(name)
    if match is None:
        return 1
    kind, pair, dtype, arch = match.groups()
    numbers = generate.read_toml(TUNING / f"{arch}.toml")[kind][generate.WIDTHS[dtype]][pair]
    return -(-kernel.threads // 64 * numbers.get("min_blocks", 1) // SIMDS)


def register_limit(waves: int) -> int:
    """Registers of a lane with so many waves on a SIMD; handed out in eights."""
    return SIMD_REGISTERS // waves // 8 * 8


def compiler_version(compiler: Path) -> str:
    printed = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"clang version (\S+)", printed)[0]


def registers(kernels: dict[str, KernelResources]) -> dict[str, dict[str, int]]:
    return {name: {"vgprs": kernel.vgprs, "agprs": kernel.agprs} for name, kernel in kernels.items()}
