"""Copies of tiles into LDS: bounds on both sides, and rows that overlap or that 32-bit offsets do not reach."""

from __future__ import annotations

import numpy as np
import pytest

import gfx942_sim
from pipelines import compile_kernels

ROWS, COLS = 32, 64
FAR = (1 << 24) // 2 + 8  # elements; 16 MiB a row, 32 rows of which a copy takes one by one


@pytest.fixture(scope="module")
def copy_tile(tmp_path_factory: pytest.TempPathFactory) -> gfx942_sim.Kernel:
    code = compile_kernels("tile_copy.hip", tmp_path_factory.mktemp("tile_copy"))
    return gfx942_sim.load(code.elf)["copy_tile"]


@pytest.mark.parametrize("rows", [-3, 0, 1, 2, 31, 32, 100])
@pytest.mark.parametrize(("stride", "cols"), [(64, 64), (64, 8), (72, 64), (256, 40), (FAR, 64), (FAR, 16)])
def test_what_is_out_of_bounds_is_zero(stride: int, cols: int, rows: int, copy_tile: gfx942_sim.Kernel) -> None:
    """The source ends with the last valid row, and nothing beyond is read."""
    valid = min(max(rows, 0), ROWS)
    source = np.zeros(max((valid - 1) * stride + cols, 1), np.uint16)  # untouched pages take no memory
    view = np.lib.stride_tricks.as_strided(source, (valid, cols), (2 * stride, 2))
    view[:] = np.random.default_rng(rows + 3).integers(1, 1 << 16, (valid, cols))
    expected = np.zeros((ROWS, COLS), np.uint16)
    expected[:valid, :cols] = view
    check(copy_tile, source, stride, rows, cols, expected)


@pytest.mark.parametrize("stride", [0, 8, -64, 1 << 40])
@pytest.mark.parametrize("rows", [0, 1])
def test_stride_of_a_single_row_may_be_anything(stride: int, rows: int, copy_tile: gfx942_sim.Kernel) -> None:
    source = np.arange(1, COLS + 1, dtype=np.uint16)
    expected = np.zeros((ROWS, COLS), np.uint16)
    expected[:rows] = source
    check(copy_tile, source, stride, rows, COLS, expected)


@pytest.mark.parametrize("stride", [0, 8])
def test_rows_may_overlap(stride: int, copy_tile: gfx942_sim.Kernel) -> None:
    source = np.arange(1, 19 * stride + COLS + 1, dtype=np.uint16)
    expected = np.zeros((ROWS, COLS), np.uint16)
    expected[:20] = np.lib.stride_tricks.as_strided(source, (20, COLS), (2 * stride, 2))
    check(copy_tile, source, stride, 20, COLS, expected)


def check(
    kernel: gfx942_sim.Kernel, source: np.ndarray, stride: int, rows: int, cols: int, expected: np.ndarray
) -> None:
    out = np.full((ROWS, COLS), 0x7FC0, np.uint16)
    kernel((1,), (128,), source, stride, rows, cols, out)
    np.testing.assert_array_equal(out, expected)
