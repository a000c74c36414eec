"""The machine code for AMD GPUs inside an object file or library, and the resources that its kernels take."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BUNDLE = b"__CLANG_OFFLOAD_BUNDLE__"
ENTRY = struct.Struct("<QQQ")  # offset from the bundle, size, length of the name that follows
DEVICE = re.compile(r"amdgcn-amd-amdhsa-\w*-(gfx\w+)")

# Field of KernelResources -> its name in the notes of a code object.
NOTES = {
    "threads": "max_flat_workgroup_size",
    "vgprs": "vgpr_count",
    "agprs": "agpr_count",
    "sgprs": "sgpr_count",
    "vgpr_spills": "vgpr_spill_count",
    "sgpr_spills": "sgpr_spill_count",
    "scratch_bytes": "private_segment_fixed_size",
    "lds_bytes": "group_segment_fixed_size",
}


@dataclass(frozen=True)
class CodeObject:
    arch: str
    elf: bytes


@dataclass(frozen=True)
class KernelResources:
    symbol: str
    arch: str
    threads: int  # of a block, at most
    vgprs: int  # of a lane, accumulation registers (AGPRs) among them
    agprs: int
    sgprs: int
    vgpr_spills: int
    sgpr_spills: int  # these go to lanes of VGPRs
    scratch_bytes: int  # memory of a lane
    lds_bytes: int  # without what a launch adds

    @property
    def spills(self) -> bool:
        return self.vgpr_spills + self.sgpr_spills + self.scratch_bytes > 0


def code_objects(file: Path) -> Iterator[CodeObject]:
    """Every code object of the bundles in a file, in order."""
    data = file.read_bytes()
    start = data.find(BUNDLE)
    while start >= 0:
        (count,) = struct.unpack_from("<Q", data, start + len(BUNDLE))
        place = start + len(BUNDLE) + 8
        for _ in range(count):
            offset, size, length = ENTRY.unpack_from(data, place)
            name = data[place + ENTRY.size : place + ENTRY.size + length].decode()
            place += ENTRY.size + length
            if match := DEVICE.search(name):
                yield CodeObject(match[1], data[start + offset : start + offset + size])
        start = data.find(BUNDLE, place)


def llvm_text(tool: Path, arguments: list[str], code: CodeObject) -> str:
    """What an LLVM tool prints about a code object."""
    with tempfile.NamedTemporaryFile(suffix=".co") as file:
        file.write(code.elf)
        file.flush()
        return subprocess.run([tool, *arguments, file.name], capture_output=True, text=True, check=True).stdout


def resources(code: CodeObject, readelf: Path) -> list[KernelResources]:
    """From the notes: a YAML list with one item a kernel, whose own fields stand at four spaces."""
    notes = llvm_text(readelf, ["--notes"], code)
    listed = notes.partition("amdhsa.kernels:\n")[2].partition("\namdhsa.")[0]
    kernels = []
    for item in re.split(r"^  - ", listed, flags=re.MULTILINE)[1:]:
        fields = dict(re.findall(r"^(?:    )?\.(\w+): +(\S+)$", item, flags=re.MULTILINE))
        numbers = {field: int(fields.get(name, "0")) for field, name in NOTES.items()}
        kernels.append(KernelResources(fields["name"], code.arch, **numbers))
    return kernels
