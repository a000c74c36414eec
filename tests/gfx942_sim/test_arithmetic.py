"""Arithmetic of every width, library functions and conversions, against numpy and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import torch

from checks import LANES, near, rounded, same, widened


def test_library_functions(compiled, level):
    x = (np.random.default_rng(1).standard_normal(64) * 3).astype(np.float32)
    out = np.zeros((17, 64), np.float32)
    compiled("arithmetic", level)["functions"]((1,), (64,), x, out)
    v = x.astype(np.float64)
    a = np.abs(v)
    expected = {
        "sin": np.sin(v),
        "cos": np.cos(v),
        "tanh": np.tanh(v),
        "erf": [math.erf(value) for value in v],
        "exp": np.exp(v),
        "log": np.log(a),
        "divide": v / (v * v + 1),
        "sqrt": np.sqrt(a),
        "pow": a**1.7,
        "rsqrt": 1 / np.sqrt(a),
        "round": np.floor(v) + np.rint(v) + np.trunc(v) + np.ceil(v),
        "fmod": np.fmod(x, np.float32(0.7)),
        "convert": np.trunc(x * np.float32(100)) + np.trunc(np.abs(x) * np.float32(1000)),
        "log1p": np.log1p(a),
        "sin of large": np.sin((x * np.float32(1e5)).astype(np.float64)),
        "min, max, med3": np.maximum(v, 0.25) - np.minimum(v, -0.25) + np.clip(v, -1, 1),
        "ldexp": v * 2.0 ** (LANES % 7 - 3),
    }
    for got, (name, want) in zip(out, expected.items(), strict=True):
        near(got, want, 3e-6, name)


def test_division_is_correctly_rounded_at_the_edges(compiled):
    """v_div_scale, v_div_fmas and v_div_fixup together: subnormals, infinities, NaN, both zeros, all against all."""
    edges = np.array(
        [0.0, -0.0, 1, -1, 3, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 1.17e-38, 3e-38, 3.4e38, -2.5e38, 1e-20, 7e19],
        np.float32,
    )
    numerator, denominator = (values.ravel().copy() for values in np.meshgrid(edges, edges))
    out = np.zeros(256, np.float32)
    compiled("arithmetic")["quotients"]((4,), (64,), numerator, denominator, out)
    with np.errstate(all="ignore"):
        want = numerator / denominator
    same(out, want)
    same(np.signbit(out[~np.isnan(want)]), np.signbit(want[~np.isnan(want)]), "signs")


def test_doubles(compiled, level):
    x = np.random.default_rng(2).standard_normal(64) * 3
    out = np.zeros((5, 64))
    compiled("arithmetic", level)["doubles"]((1,), (64,), x, out)
    expected = [x * x + 1 / (x * x + 3), np.sqrt(np.abs(x)), np.exp(x), x.astype(np.float32), np.floor(x) + np.trunc(x)]
    for got, want in zip(out, expected, strict=True):
        near(got, want, 1e-14)


def test_halves(compiled, level):
    x = np.random.default_rng(3).standard_normal((64, 2)).astype(np.float16)
    out, sums = np.zeros((4, 64, 2), np.float16), np.zeros((2, 64), np.float32)
    compiled("arithmetic", level)["halves"]((1,), (64,), x, out, sums)
    a, b = x.astype(np.float32), x[::-1].astype(np.float32)
    near(out[0], a * b + a, 2e-3, "packed fma")
    same(out[1], np.maximum(a, b), "packed max")
    same(out[2], np.stack([a[:, 0], b[:, 1] * 3], 1), "conversions")
    truncated = out[3].astype(np.float64)
    exact = np.stack([a[:, 0] * np.float32(3.3), b[:, 0]], 1).astype(np.float64)
    assert np.all(np.abs(truncated) <= np.abs(exact)), "cvt_pkrtz rounds toward zero"
    near(truncated, exact, 1e-3)
    near(sums[0], (a * b).sum(1) + 1.5, 1e-6, "dot2")
    same(sums[1], a[:, 0] + b[:, 1], "mixed precision")


def test_packed_floats(compiled, level):
    x = np.random.default_rng(4).standard_normal((64, 2)).astype(np.float32)
    out = np.zeros((4, 64, 2), np.float32)
    compiled("arithmetic", level)["packed_floats"]((1,), (64,), x, out)
    a, b = x, x[::-1]
    same(out[0], a * b)
    same(out[1], a + b)
    near(out[2], a * b + np.stack([b[:, 1], a[:, 0]], 1), 1e-6)
    same(out[3], a - b[:, :1])


def test_eight_bit_floats(compiled):
    """gfx942 has the formats that PyTorch calls fnuz."""
    x = (np.random.default_rng(5).standard_normal(64) * 20).astype(np.float32)
    x[:8] = [0, -0.0, 239, 240, 250, 1e-4, -0.001, 0.0146]
    fp8, bf8, back = np.zeros(64, np.uint32), np.zeros(64, np.uint32), np.zeros(64, np.float32)
    compiled("arithmetic")["small_floats"]((1,), (64,), x, fp8, bf8, back)
    given = np.stack([x, x[::-1], x * 2, x[::-1] * np.float32(0.01)], 1)
    saturated = np.clip(given, -240, 240)
    want = rounded(saturated, torch.float8_e4m3fnuz)
    same(fp8.view(np.uint8).reshape(64, 4), want, "fp8")
    values = widened(want, torch.float8_e4m3fnuz)
    same(back, values[:, 0] + values[:, 3], "back")
    want = rounded(np.stack([x, x[::-1]], 1), torch.float8_e5m2fnuz)
    same(bf8.view(np.uint8).reshape(64, 4)[:, :2], want, "bf8")


def test_bfloat16(compiled, level):
    x = (np.random.default_rng(6).standard_normal(64) * 20).astype(np.float32)
    x[:6] = [np.inf, -np.inf, np.nan, 3.4e38, 1e-45, -0.0]
    x[6] = np.array(0x3F808000, np.uint32).view(np.float32)  # a tie, to even
    bits, back = np.zeros(64, np.uint16), np.zeros(64, np.float32)
    compiled("arithmetic", level)["bfloats"]((1,), (64,), x, bits, back)
    want = rounded(x, torch.bfloat16)
    number = ~np.isnan(x)
    same(bits[number], want[number])
    assert np.isnan(widened(bits, torch.bfloat16)[2])
    same(back, widened(want, torch.bfloat16)[::-1])


def signed(value: int, bits: int = 32) -> int:
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def truncated(numerator: int, denominator: int) -> int:
    quotient = abs(numerator) // abs(denominator)
    return quotient if (numerator < 0) == (denominator < 0) else -quotient


def integer_results(x: int, lane: int) -> list[int]:
    u = x & 0xFFFFFFFF
    selected = u | (~u & 0xFFFFFFFF) << 32
    permuted = sum((selected >> 8 * (0x2653 >> 4 * i & 7) & 255) << 8 * i for i in range(4))
    signed24 = signed(u & 0xFFFFFF, 24)
    return [
        truncated(x, lane + 3),
        x - (lane - 100) * truncated(x, lane - 100),
        truncated(signed(x * 123456789123, 64), lane + 1) >> 3,
        (u // 7 + (u * 0x9E3779B9 >> 32)) & 0xFFFFFFFF,
        int(f"{u:032b}"[::-1], 2),
        bin(u).count("1") * 1000 + (32 - (lane + 1).bit_length()) * 10 + (u & -u).bit_length(),
        permuted,
        signed(u << lane % 40, 64) >> 3,
        (signed(u & 0xFF, 8) >> 1) + signed(x * 3 & 0xFFFF, 16),
        signed((x * -123456 >> 32) + signed(signed24 * (lane - 7)) + min(x, 5) + max(lane, 9)),
    ]


def test_integers(compiled, level):
    x = np.random.default_rng(7).integers(-(1 << 31), 1 << 31, 64).astype(np.int32)
    x[:4] = [1, -1, 7, (1 << 31) - 1]
    out = np.zeros((10, 64), np.int64)
    compiled("arithmetic", level)["integers"]((1,), (64,), x, out)
    want = np.array([integer_results(int(x[lane]), int(lane)) for lane in LANES], object).T
    for row, (got, values) in enumerate(zip(out, want, strict=True)):
        # brev and byte_perm give unsigned ints, which widen to long without a sign
        same(got, values.astype(np.int64), f"row {row}")
