"""Global memory, LDS, scratch, buffers and atomic operations."""

from __future__ import annotations

import numpy as np
import torch

from checks import LANES, same, widened


def test_buffers_end_where_the_resource_says(compiled):
    """Reads behind the end give 0, writes there do nothing, and a wide read ends within."""
    given = np.random.default_rng(1).integers(-1000, 1000, 128).astype(np.int32)
    out = np.full(128 + 256, -1, np.int32)
    compiled("memory")["buffers"]((1,), (64,), given, out)
    same(out[:64], np.where(LANES < 50, given[:64], 0))
    same(out[64:128], np.where(LANES < 32, LANES + 5, -1))
    inside = np.where(np.arange(128) < 50, given, 0)
    start = (LANES % 8 * 16 + 96) // 4
    same(out[128:].reshape(64, 4), inside[start[:, None] + np.arange(4)])


def test_loads_straight_into_lds(compiled, level):
    given = np.random.default_rng(2).integers(-1000, 1000, 64).astype(np.int32)
    out = np.zeros(64, np.int32)
    compiled("memory", level)["load_to_lds"]((1,), (64,), given, out)
    same(out, given[::-1])


def test_atomic_operations(compiled, level):
    sums, words = np.zeros(16, np.float32), np.zeros(8 + 64, np.int32)
    longs, total = np.zeros(1, np.uint64), np.zeros(1)
    compiled("memory", level)["atomics"]((1,), (64,), sums, words, longs, total)
    same(sums[:4], np.full(4, 16))
    same(sums[8:10], [LANES[::2].sum() / 2, LANES[1::2].sum() / 2])
    assert 1 <= words[2] <= 64, "one lane's compare-and-swap succeeded"
    same(np.delete(words[:7], 2), [2016, 63, -1, 9, -63, 64])
    same(words[8:], np.ones(64), "every lane drew another ticket")
    same(longs, np.array([2016 << 30], np.uint64))
    same(total, [2016 / 4])


def test_packed_atomic_operations(compiled):
    out = np.zeros(4, np.uint32)
    compiled("memory")["packed_atomics"]((1,), (64,), out)
    same(widened(out[:2].view(np.uint16), torch.bfloat16), [32, 64, 32, 64])
    same(out[2:3].view(np.float16), [64, 128])


def scratch_result(x: np.ndarray, lane: int, steps: int) -> int:
    values = [(int(x[i]) + lane) & 0xFFFFFFFF for i in range(40)]
    for i in range(steps):
        j = int(x[i % 40]) % 40
        values[j] ^= (values[(j * 7 + 3) % 40] + i) & 0xFFFFFFFF
    total = 0
    for value in values:
        total = (total * 31 + value) & 0xFFFFFFFF
    return total


def test_scratch(compiled, level):
    x = np.random.default_rng(3).integers(0, 1 << 30, 64).astype(np.int32)
    out = np.zeros(64, np.int32)
    kernel = compiled("memory", level)["scratch"]
    assert kernel.info.scratch_bytes >= 160
    kernel((1,), (64,), x, out, 57)
    same(out.view(np.uint32), np.array([scratch_result(x, int(lane), 57) for lane in LANES], np.uint32))


def test_bytes_and_shorts(compiled, level):
    x = np.random.default_rng(4).integers(0, 256, 64).astype(np.uint8)
    out, shorts = np.zeros(128, np.uint8), np.zeros(64, np.int16)
    compiled("memory", level)["bytes"]((1,), (64,), x, out, shorts)
    same(out[:64], x[::-1])
    same(out[64:].view(np.int8), x.view(np.int8) >> 1)
    same(shorts, (x.astype(np.int32) * 3 - 100)[::-1])


def test_two_waves_share_a_dword(compiled, level):
    out = np.zeros(128, np.int16)
    compiled("memory", level)["shared_dword"]((1,), (128,), out)
    place = 127 - np.arange(128)
    same(out, place // 2 + 64 * (place % 2))


def test_dynamic_lds_and_hidden_arguments(compiled, level):
    out = np.zeros(512, np.int32)
    compiled("memory", level)["dynamic_lds"]((2,), (256,), out, 5, dynamic_lds=1024)
    same(out, np.tile((np.arange(256) + 5) % 256 * 2 + 256 + 2000, 2))


def test_device_variables_keep_their_values(compiled):
    code = compiled("memory")
    out = np.zeros(8, np.int32)
    code.symbol("counter").view(np.int32)[0] = 100
    code["count"]((8,), (64,), out)
    same(np.sort(out), 100 + np.arange(8), "blocks on several threads count atomically")
    assert code.symbol("counter").view(np.int32)[0] == 108
