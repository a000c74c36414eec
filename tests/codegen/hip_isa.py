"""Reads the machine code of AMD kernels: instructions, loops, matrix work and the width of memory accesses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import code_object
import hip_tools

FUNCTION = re.compile(r"^([0-9a-f]{16}) <(\S+)>:$")
INSTRUCTION = re.compile(r"^\t(\w+)(?: (.*?))?\s*// ([0-9A-F]{12}):")
JUMP_TARGET = re.compile(r"<\S+?(?:\+0x([0-9a-f]+))?>\s*$")
MATRIX = re.compile(r"v_s?mfmac?_\w+?_(\d+)x(\d+)x(\d+)(?:_(\d+)b)?")
MEMORY = re.compile(r"(global|buffer|flat|scratch)_(load|store)_(?:lds_)?(dwordx(\d+)|dword|[su]?(?:byte|short)\w*)")


@dataclass(frozen=True)
class Instruction:
    address: int
    mnemonic: str
    operands: str
    target: int | None = None  # address that a branch jumps to

    @property
    def multiply_adds(self) -> int:
        """Of a matrix instruction: rows x columns x depth x blocks."""
        match = MATRIX.match(self.mnemonic)
        if match is None:
            return 0
        rows, columns, depth, blocks = (int(text or 1) for text in match.groups())
        return rows * columns * depth * blocks

    @property
    def is_load(self) -> bool:
        match = MEMORY.match(self.mnemonic)
        return match is not None and match[2] == "load"

    @property
    def access_bytes(self) -> int:
        """Of a load or store to global memory: bytes a lane."""
        match = MEMORY.match(self.mnemonic)
        if match is None:
            return 0
        if match[3].startswith("dword"):
            return 4 * int(match[4] or 1)
        return 2 if "short" in match[3] else 1


def disassemble(code: code_object.CodeObject, objdump: Path | None = None) -> dict[str, list[Instruction]]:
    """Symbol -> instructions of every function of a code object."""
    objdump = objdump or hip_tools.toolchain().tool("llvm-objdump")
    text = code_object.llvm_text(objdump, ["-d", f"--mcpu={code.arch}"], code)
    functions: dict[str, list[Instruction]] = {}
    body: list[Instruction] = []
    start = 0
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            start, body = int(match[1], 16), functions.setdefault(match[2], [])
        elif match := INSTRUCTION.match(line):
            is_branch = match[1].startswith(("s_cbranch", "s_branch"))
            jump = JUMP_TARGET.search(line) if is_branch else None
            target = start + int(jump[1] or "0", 16) if jump else None
            body.append(Instruction(int(match[3], 16), match[1], match[2] or "", target))
    return functions


def loops(body: list[Instruction]) -> list[list[Instruction]]:
    """What lies between each backward branch and its target, in order; an outer loop holds its inner ones."""
    return [
        [inner for inner in body if branch.target <= inner.address <= branch.address]
        for branch in body
        if branch.target is not None and branch.target <= branch.address
    ]


def innermost(all_loops: list[list[Instruction]]) -> list[list[Instruction]]:
    """Loops without a loop inside."""

    def holds_another(loop: list[Instruction]) -> bool:
        first, last = loop[0].address, loop[-1].address
        return any(
            other is not loop and first <= other[0].address and other[-1].address <= last and len(other) < len(loop)
            for other in all_loops
        )

    return [loop for loop in all_loops if not holds_another(loop)]


def multiply_adds(body: Iterable[Instruction]) -> int:
    """Matrix work of a wave that runs through `body` once."""
    return sum(instruction.multiply_adds for instruction in body)


def narrow_loads(body: Iterable[Instruction], least_bytes: int = 16) -> list[Instruction]:
    """Loads from global memory that fetch less than `least_bytes` a lane."""
    return [instruction for instruction in body if instruction.is_load and instruction.access_bytes < least_bytes]


def private_accesses(body: Iterable[Instruction]) -> list[Instruction]:
    """Accesses to memory of a lane's own: spilled registers, and arrays or structs that found no registers."""
    return [instruction for instruction in body if instruction.mnemonic.startswith("scratch_")]
