"""Matrix instructions: every kind against A·B + C, with the registers' places as AMD documents them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from checks import LANES, near, rounded, same, widened

ELEMENTS = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "f64": torch.float64,
    "fp8": torch.float8_e4m3fnuz,
    "bf8": torch.float8_e5m2fnuz,
    "i8": torch.int8,
}


@dataclass(frozen=True)
class Shape:
    """An instruction by the name of its builtin."""

    name: str

    def _fields(self) -> tuple[str, str, str, str, str]:
        pattern = r"(f32|i32|f64)_(\d+)x\d+x(\d+)_?(bf16|f16|f32|f64|fp8|bf8|i8)(?:_1k)?(?:_(fp8|bf8))?"
        return re.fullmatch(pattern, self.name).groups()

    @property
    def result(self) -> str:
        return self._fields()[0]

    @property
    def size(self) -> int:
        return int(self._fields()[1])

    @property
    def k(self) -> int:
        return int(self._fields()[2])

    @property
    def elements(self) -> tuple[str, str]:
        first, second = self._fields()[3:]
        return first, second or first

    @property
    def blocks(self) -> int:
        """The builtins do not name it: where one block's A would not fill the lanes' registers there are several."""
        several = {(32, 4): 2, (16, 4): 4, (4, 4): 16, (32, 1): 2, (16, 1): 4, (4, 1): 16}
        one_block = self.elements[0] in ("f32", "f64") and (self.size, self.k) == (16, 4)
        return 1 if one_block else several.get((self.size, self.k), 1)

    @property
    def depth(self) -> int:
        """Consecutive k that a lane holds."""
        return self.size * self.k * self.blocks // 64

    def place(self, register: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Block, row and column of D in `register` of each lane."""
        if self.size == 4:
            return LANES // 4, np.full(64, register), LANES % 4
        column = LANES % self.size
        if self.result == "f64":
            return LANES * 0, 4 * register + LANES // 16, column
        runs = 16 if self.size == 32 else 4  # registers of a block
        r = register % runs
        row = 8 * (r // 4) + 4 * (LANES // 32) + r % 4 if self.size == 32 else 4 * (LANES // 16) + r
        return np.full(64, register // runs), row, column


def operand(shape: Shape, registers: np.ndarray) -> np.ndarray:
    """[block, row of A or column of B, k] out of what the lanes hold: [lane, depth]."""
    matrix = np.zeros((shape.blocks, shape.size, shape.k))
    group = LANES // shape.size
    for j in range(shape.depth):
        matrix[group % shape.blocks, LANES % shape.size, group // shape.blocks * shape.depth + j] = registers[:, j]
    return matrix


def make_operand(shape: Shape, element: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The bits that the lanes hold, and their values."""
    if element == "i8":
        bits = rng.integers(-100, 100, (64, shape.depth)).astype(np.int8)
        return bits, bits.astype(np.float64)
    values = rng.standard_normal((64, shape.depth))
    if element in ("f16", "f32", "f64"):
        bits = values.astype({"f16": np.float16, "f32": np.float32, "f64": np.float64}[element])
        return bits, bits.astype(np.float64)
    bits = rounded(values.astype(np.float32), ELEMENTS[element])
    return bits, widened(bits, ELEMENTS[element])


def check_instruction(shape: Shape, kernel) -> None:
    rng = np.random.default_rng(1)
    (a_bits, a), (b_bits, b) = (make_operand(shape, element, rng) for element in shape.elements)
    registers = shape.size * shape.size * shape.blocks // 64
    dtype = {"f32": np.float32, "i32": np.int32, "f64": np.float64}[shape.result]
    c = rng.integers(-9, 9, (64, registers)).astype(dtype)
    want = c.astype(np.float64)
    product = np.einsum("brk,bck->brc", operand(shape, a), operand(shape, b))
    for register in range(registers):
        want[:, register] += product[shape.place(register)]
    report = kernel((1,), (64,), a_bits, b_bits, c)
    near(c, want, {"f32": 1e-5, "i32": 0, "f64": 1e-13}[shape.result])
    assert report.instructions_of_class["mfma"] == 1
    assert report.mfma_flops == 2 * shape.size**2 * shape.k * shape.blocks


NAMES = [
    "f32_32x32x8bf16_1k",
    "f32_16x16x16bf16_1k",
    "f32_32x32x4bf16_1k",
    "f32_16x16x4bf16_1k",
    "f32_4x4x4bf16_1k",
    "f32_32x32x8f16",
    "f32_16x16x16f16",
    "f32_32x32x4f16",
    "f32_16x16x4f16",
    "f32_4x4x4f16",
    "f32_32x32x2f32",
    "f32_16x16x4f32",
    "f32_32x32x1f32",
    "f32_16x16x1f32",
    "f32_4x4x1f32",
    "f32_16x16x32_fp8_fp8",
    "f32_32x32x16_fp8_fp8",
    "f32_16x16x32_bf8_fp8",
    "f32_32x32x16_fp8_bf8",
    "f32_16x16x32_bf8_bf8",
    "i32_16x16x32_i8",
    "i32_32x32x16_i8",
    "f64_16x16x4f64",
]


@pytest.mark.parametrize("name", NAMES)
def test_matrix_instruction(compiled, name):
    check_instruction(Shape(name), compiled("matrix")[f"m_{name}"])


@pytest.mark.parametrize("name", ["f32_32x32x16_bf16", "f32_16x16x32_bf16", "f32_32x32x16_f16", "f32_16x16x32_f16"])
def test_matrix_instruction_of_gfx950(compiled, name):
    check_instruction(Shape(name), compiled("matrix", "O3", "gfx950")[f"m_{name}"])


def test_operands_in_accumulation_registers(compiled):
    shape = Shape("f32_32x32x8bf16_1k")
    rng = np.random.default_rng(2)
    (a_bits, a), (b_bits, b) = (make_operand(shape, "bf16", rng) for _ in range(2))
    c = np.zeros((64, 16), np.float32)
    compiled("matrix")["accumulation_registers"]((1,), (64,), a_bits, b_bits, c)
    product = np.einsum("brk,bck->brc", operand(shape, a), operand(shape, b))
    near(c, 1 + np.stack([product[shape.place(register)] for register in range(16)], 1), 1e-5)


def test_row_swaps_of_gfx950(compiled):
    given = np.random.default_rng(3).integers(0, 1 << 30, 128).astype(np.uint32)
    out = np.zeros((4, 64), np.uint32)
    compiled("matrix", "O3", "gfx950")["swap_rows"]((1,), (64,), given, out)
    first, second = given[:64].reshape(4, 16), given[64:].reshape(4, 16)
    same(out[0], np.concatenate([first[:2], second[:2]]).ravel(), "32: first keeps its low half")
    same(out[1], np.concatenate([first[2:], second[2:]]).ravel(), "32: second keeps its high half")
    same(out[2], np.stack([first[0], second[0], first[2], second[2]]).ravel(), "16: first keeps its even rows")
    same(out[3], np.stack([first[1], second[1], first[3], second[3]]).ravel(), "16: second keeps its odd rows")


def test_transposing_read_of_gfx950(compiled):
    """Four tiles of 4 rows by 16 columns, rows anywhere: lane 16 t + c gets column c of tile t."""
    rng = np.random.default_rng(5)
    numbers = rng.permutation(1024).astype(np.int16)
    rows = rng.permutation(1024 // 16)[:16].reshape(4, 4) * 16  # of each tile, where they begin
    places = (rows[:, :, None] + np.arange(0, 16, 4)).reshape(64).astype(np.int32)
    out = np.zeros((64, 4), np.int16)
    compiled("matrix", "O3", "gfx950")["read_transposed"]((1,), (64,), numbers, places, out)
    tiles = numbers[rows[:, :, None] + np.arange(16)]  # [tile, row, column]
    same(out, tiles.transpose(0, 2, 1).reshape(64, 4))


def test_three_bit_operands_of_gfx950(compiled):
    a, b, c = given = np.random.default_rng(6).integers(0, 1 << 32, (3, 64), dtype=np.uint32)
    out = np.zeros((2, 64), np.uint32)
    compiled("matrix", "O3", "gfx950")["three_bit_operands"]((1,), (64,), given, out)
    same(out, np.stack([(a & ~b) | (~a & b & c), a ^ (b | ~c)]))


def test_bfloat16_conversion_of_gfx950(compiled):
    given = (np.random.default_rng(4).standard_normal(128) * 10).astype(np.float32)
    out = np.zeros(128, np.uint16)
    compiled("matrix", "O3", "gfx950")["to_bfloats"]((1,), (64,), given, out)
    same(out, rounded(given, torch.bfloat16))
