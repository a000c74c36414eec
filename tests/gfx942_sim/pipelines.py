"""The pipelines of gfx942, compiled alone, on problems made of numpy arrays."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import code_object
import gfx942_sim
import hip_tools
import hipify
from gfx942_sim.cycle_model import Prediction, predict, traced

SOURCES = Path(__file__).resolve().parent / "sources"
DATA = ("q", "k", "v", "o", "lse", "d_o", "dk", "dv", "delta", "dq_accum")
SIZES = ("seqlen_q", "seqlen_kv", "num_heads_q", "num_heads_kv", "head_dim", "causal")
SCALE = 0.125
ROWS = 16  # of a block of the dq scratch


class ProblemStruct(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_void_p) for name in DATA), *((name, ctypes.c_int32) for name in SIZES)]


def bf16(x: np.ndarray) -> np.ndarray:
    """Round to nearest even; the upper half of a float."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@dataclass
class Problem:
    """One sequence. Outputs start as NaN, the dq scratch as the caller's zeros."""

    seqlen_q: int
    seqlen_kv: int
    head_dim: int
    num_heads_q: int = 1
    num_heads_kv: int = 1
    causal: bool = False
    seed: int = 1
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        q_shape = (self.seqlen_q, self.num_heads_q, self.head_dim)
        kv_shape = (self.seqlen_kv, self.num_heads_kv, self.head_dim)
        shapes = {"q": q_shape, "k": kv_shape, "v": kv_shape, "d_o": q_shape}
        self.arrays = {name: bf16(rng.standard_normal(shape)) for name, shape in shapes.items()}
        nan = np.uint16(0x7FC0)
        self.arrays |= {"o": np.full(q_shape, nan), "dk": np.full(kv_shape, nan), "dv": np.full(kv_shape, nan)}
        self.arrays |= {name: np.full(q_shape[:2], np.nan, np.float32) for name in ("lse", "delta")}
        groups = -(-self.seqlen_q // ROWS)
        self.arrays["dq_accum"] = np.zeros((groups, self.num_heads_q, ROWS * self.head_dim), np.float32)

    @cached_property
    def expected(self) -> dict[str, np.ndarray]:
        """In float64. Every query sees a key."""
        q, k, v, d_o = (widened(self.arrays[name]) for name in ("q", "k", "v", "d_o"))
        group = self.num_heads_q // self.num_heads_kv
        out = {name: np.zeros(self.arrays[name].shape) for name in ("o", "lse", "delta", "dk", "dv")}
        out["dq"] = np.zeros(q.shape)
        hidden = np.arange(self.seqlen_kv) > np.arange(self.seqlen_q)[:, None] if self.causal else False
        for h in range(self.num_heads_q):
            g = h // group
            s = np.where(hidden, -np.inf, q[:, h] @ k[:, g].T * SCALE)
            top = s.max(-1, keepdims=True)
            p = np.exp(s - top)
            out["lse"][:, h] = (top + np.log(p.sum(-1, keepdims=True)))[:, 0]
            p /= p.sum(-1, keepdims=True)
            out["o"][:, h] = p @ v[:, g]
            out["delta"][:, h] = (out["o"][:, h] * d_o[:, h]).sum(-1)
            ds = p * (d_o[:, h] @ v[:, g].T - out["delta"][:, h, None])
            out["dq"][:, h] = ds @ k[:, g] * SCALE
            out["dk"][:, g] += ds.T @ q[:, h] * SCALE
            out["dv"][:, g] += p.T @ d_o[:, h]
        return out

    def give_statistics(self) -> None:
        """What a forward would have left for the backward."""
        for name in ("lse", "delta"):
            self.arrays[name][:] = self.expected[name]

    def result(self, name: str) -> np.ndarray:
        if name != "dq":
            array = self.arrays[name]
            return widened(array) if array.dtype == np.uint16 else array.astype(np.float64)
        row, col = np.arange(ROWS)[:, None], np.arange(self.head_dim)
        place = col // 8 * 128 + row % 2 * 64 + col % 8 // 2 * 16 + row // 2 * 2 + col % 2
        blocks = self.arrays["dq_accum"][:, :, place]  # [groups, h, row, col]
        rows = blocks.transpose(0, 2, 1, 3).reshape(-1, self.num_heads_q, self.head_dim)
        return rows[: self.seqlen_q].astype(np.float64)

    def error(self, name: str) -> float:
        """Largest error, relative to the largest value."""
        expected = self.expected[name]
        return float(abs(self.result(name) - expected).max() / abs(expected).max())


def compile_kernels(source: str, folder: Path, *flags: str, arch: str = "gfx942") -> code_object.CodeObject:
    """sources/<source> with the HIP mirror of the kernels, which goes to `folder`."""
    toolchain, csrc, mirror = hip_tools.toolchain(), hip_tools.ROOT / "csrc", folder / "mirror"
    try:
        hipify.find_hipify()
    except hipify.HipifyError as reason:
        pytest.skip(str(reason))
    command = [sys.executable, hip_tools.ROOT / "cmake" / "hipify.py", "--source", csrc / "cuda"]
    hip_tools.run([*command, "--overlay", csrc / "hip", "--out", mirror])
    compile_ = [toolchain.compiler, *toolchain.flags, f"--offload-arch={arch}", "-O3", "-std=c++17"]
    compile_ += ["-DPORTATTN_TARGET_HIP", f"-I{mirror}", f"-I{csrc}", "--no-offload-compress"]
    target = folder / f"{source}.o"
    hip_tools.run([*compile_, *flags, "-c", SOURCES / source, "-o", target])
    (code,) = code_object.code_objects(target)
    return code


class Pipelines:
    """Compiled into `folder`."""

    def __init__(self, folder: Path, *flags: str, arch: str = "gfx942") -> None:
        self.code = compile_kernels("pipelines.hip", folder, *flags, arch=arch)
        self.kernels = gfx942_sim.load(self.code.elf)
        library = folder / "attn_params.so"
        csrc = hip_tools.ROOT / "csrc"
        compile_ = [hip_tools.toolchain().compiler, "-shared", "-fPIC", "-std=c++17", f"-I{csrc / 'cuda'}"]
        hip_tools.run([*compile_, SOURCES / "attn_params.cpp", "-o", library])
        self.library = ctypes.CDLL(str(library))

    def facts(self, name: str) -> tuple[int, int, int]:
        """Threads of a block, rows of a tile, bytes of LDS."""
        threads, rows, lds = self.kernels.symbol(f"{name}_facts").view(np.int32)
        return int(threads), int(rows), int(lds)

    def _launch(self, name: str, problem: Problem, stack: contextlib.ExitStack) -> tuple[Any, ...]:
        threads, rows, lds = self.facts(name)
        forward = name.startswith("fwd")
        for array_name, array in problem.arrays.items():
            stack.enter_context(gfx942_sim.registered(array, array_name))
        data = {array_name: array.ctypes.data for array_name, array in problem.arrays.items()}
        sizes = {size: getattr(problem, size) for size in SIZES}
        params = ctypes.create_string_buffer(self.library.attn_params_bytes())
        self.library.attn_params(ctypes.byref(ProblemStruct(**data, **sizes)), params)
        seqlen, heads = (
            (problem.seqlen_q, problem.num_heads_q) if forward else (problem.seqlen_kv, problem.num_heads_kv)
        )
        return self.kernels[f"run_{name}"], (-(-seqlen // rows), heads), (threads,), params.raw, lds

    def run(self, name: str, problem: Problem, seed: int = 0) -> None:
        with contextlib.ExitStack() as stack:
            kernel, grid, block, params, lds = self._launch(name, problem, stack)
            kernel(grid, block, params, dynamic_lds=lds, seed=seed)

    def prediction(self, name: str, problem: Problem) -> Prediction:
        with contextlib.ExitStack() as stack:
            kernel, grid, block, params, lds = self._launch(name, problem, stack)
            return predict(traced(kernel, grid, block, params, dynamic_lds=lds))
