"""Divergence, calls, dynamic register indices, block and thread numbers."""

from __future__ import annotations

import numpy as np

from checks import LANES, same


def callee(x: int, p: np.ndarray) -> int:
    return (sum(int(p[i]) * x for i in range(x & 7)) & 0xFFFFFFFF) ^ (x & 0xFFFFFFFF)


def test_calls(compiled, level):
    x = np.random.default_rng(1).integers(-1000, 1000, 64).astype(np.int32)
    out = np.zeros(64, np.int32)
    compiled("control", level)["calls"]((1,), (64,), x, out)
    want = [(callee(int(x[lane]), x) + callee(int(lane), x[8:])) & 0xFFFFFFFF for lane in LANES]
    same(out.view(np.uint32), np.array(want, np.uint32))


def steps_of(value: int, lane: int, most: int) -> int:
    steps = 0
    while value != 1 and steps < most:
        value = 3 * value + 1 if value & 1 else value // 2
        steps += 1
        if steps == 50 and lane == 7:
            break
    return steps


def test_divergence(compiled, level):
    x = np.random.default_rng(2).integers(1, 1 << 20, 64).astype(np.int32)
    out = np.zeros((2, 64), np.int32)
    compiled("control", level)["divergence"]((1,), (64,), x, out, 90)
    steps = np.array([steps_of(int(x[lane]), int(lane), 90) for lane in LANES])
    same(out[0], steps)
    choices = [steps * 0 + 4, steps + 11, steps * 3, steps * 0 + x[3], steps ^ 77, steps - 9, -steps, steps << 3]
    same(out[1], np.select([i == LANES % 9 for i in range(8)], choices, 1234))


def test_dynamic_register_indices(compiled, level):
    x = np.random.default_rng(3).integers(-1000, 1000, 64).astype(np.int32)
    out = np.zeros((2, 64), np.int32)
    compiled("control", level)["dynamic_registers"]((1,), (64,), x, out, 13)
    values = x[:32, None] + LANES
    for i in range(4):
        values[(13 + i * 3) & 31] = 5 + i
    same(out[0], values[39 & 31])
    same(out[1], values[LANES * 5 & 31, LANES])


def test_instructions_without_effect(compiled, level):
    out = np.zeros(64, np.int64)
    compiled("control", level)["no_effect"]((1,), (64,), out)
    same(out, np.full(64, 2))


def test_block_and_thread_numbers(compiled, level):
    """A block of 150 threads: the third wave has 22 lanes."""
    grid, block = (2, 3, 2), (5, 10, 3)
    out = np.zeros((*grid[::-1], *block[::-1]), np.int32)
    compiled("control", level)["numbers"](grid, block, out)
    bz, by, bx, z, y, x = np.indices(out.shape)
    same(out, x + 100 * y + 1000 * z + 10000 * bx + 100000 * by + 1000000 * bz)
