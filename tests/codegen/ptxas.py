"""Reads the resource reports that the CUDA build keeps beside its objects (cmake/ptxas_report.py).

As a command, `python tests/codegen/ptxas.py BUILD_DIR` rewrites golden_resources.json from a finished build.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden_resources.json"

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\w+)'")
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
WARNING = re.compile(r"\(C\d{4}\)|\bwarning\b", re.IGNORECASE)


@dataclass
class KernelResources:
    symbol: str
    arch: str
    registers: int = 0
    stack_bytes: int = 0
    spill_bytes: int = 0


def parse(text: str) -> tuple[list[KernelResources], list[str]]:
    """The kernels of one object (each once an arch), and the lines that warn."""
    kernels: list[KernelResources] = []
    for line in text.splitlines():
        if match := ENTRY.search(line):
            kernels.append(KernelResources(match[1], match[2]))
        elif (match := MEMORY.search(line)) and kernels:  # of the kernel or of a function that it calls
            kernels[-1].stack_bytes += int(match[1])
            kernels[-1].spill_bytes += int(match[2]) + int(match[3])
        elif (match := REGISTERS.search(line)) and kernels:
            kernels[-1].registers = int(match[1])
    return kernels, [line for line in text.splitlines() if WARNING.search(line)]


def short_names(symbols: list[str], demangler: str = "c++filt") -> dict[str, str]:
    """Mangled entry -> name of its kernel struct: "fmha_fwd_hd64x64_bf16_sm80"."""
    plain = subprocess.run([demangler], input="\n".join(symbols), capture_output=True, text=True, check=True).stdout
    names = {}
    for symbol, text in zip(symbols, plain.splitlines(), strict=True):
        match = re.search(r"kernel_entry<(.*)>\(", text)
        names[symbol] = (match[1] if match else text).replace("portattn::", "").rstrip()
    return names


def reports(build: Path) -> list[Path]:
    """Reports of the objects that the last build holds; one of a removed source has no object."""
    found = sorted((build / "cmake" / "cuda_plugin").rglob("*.ptxas.txt"))
    return [path for path in found if path.with_name(path.name.removesuffix(".ptxas.txt")).exists()]


def nvcc_version(nvcc: str) -> str:
    printed = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"V(\d+\.\d+\.\d+)", printed)[0]


def registers(build: Path) -> dict[str, dict[str, int]]:
    """Kernel -> arch -> registers a thread."""
    kernels = [kernel for path in reports(build) for kernel in parse(path.read_text())[0]]
    names = short_names([kernel.symbol for kernel in kernels])
    table: dict[str, dict[str, int]] = {}
    for kernel in kernels:
        table.setdefault(names[kernel.symbol], {})[kernel.arch] = kernel.registers
    return dict(sorted(table.items()))


def main(build: str) -> int:
    golden = {"nvcc": nvcc_version("nvcc"), "registers": registers(Path(build))}
    GOLDEN.write_text(json.dumps(golden, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
