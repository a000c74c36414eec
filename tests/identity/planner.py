"""The sequence planner of a device library by itself."""

from __future__ import annotations

import ctypes
import functools
import tempfile
from ctypes import c_int32, c_int64, c_void_p
from pathlib import Path

import numpy as np
import torch

import native
from portattn.testing import capi

SOURCE = Path(__file__).resolve().parent / "cpp" / "plan.cpp"
Plan = tuple[int, int, int, tuple[int, ...], tuple[int, ...] | None]


@functools.cache
def _program() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        objects = native.compile_all([SOURCE], Path(folder), ["-O1", "-fvisibility=default"])
        target = Path(folder) / "libplan.so"
        native.run([native.compiler("g++", "c++"), "-shared", *objects, "-ldl", "-o", target])
        return ctypes.CDLL(str(target))


def _pointer(tensor: torch.Tensor | None) -> c_void_p:
    return c_void_p(None if tensor is None else tensor.data_ptr())


def run_plan(library: Path, plan: Plan, device: str) -> dict[str, np.ndarray]:
    """Spans and tiles that `library` plans, no tiles of 0 rows; tensors on `device` start as -1 and keep it beyond the
    tiles, but for the counter of work, which a plan zeroes."""
    batch, tokens, rows, offsets, starts = plan
    capacity = tokens // rows + batch + 1 if rows else 0
    inputs = {
        name: None if values is None else torch.tensor(values, dtype=torch.int32, device=device)
        for name, values in (("cu_seqlens", offsets), ("cu_seqlens_padded", starts))
    }
    shapes = {"spans": (batch + 1, 3), "tiles": (capacity, 2), "num_tiles": (1,), "next_item": (1,)}
    outputs = {name: torch.full(shape, -1, dtype=torch.int32, device=device) for name, shape in shapes.items()}
    with capi.provider().memory(inputs, outputs):
        error = _program().plan(
            str(library).encode(), c_int32(batch), c_int64(tokens), c_int32(rows), c_int32(capacity),
            *(_pointer(tensor) for tensor in (*inputs.values(), *outputs.values())),
        )  # fmt: skip
    assert error == 0, f"the planner of {library.name} failed with error {error}"
    assert outputs.pop("next_item").item() == 0
    return {name: tensor.cpu().numpy() for name, tensor in outputs.items()}
