"""portattn on a simulated AMD GPU, inside this process: a copy of the C API that takes CPU tensors for the memory of
that GPU, and the bounds within which the kernels of a call may use it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from ctypes import c_double, c_int, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path

import torch

from portattn.common.library import load_core

RUNTIME = "libgfx942_sim_hip.so"


class Options(ctypes.Structure):
    """gfxsim_options."""

    _fields_ = [
        ("seed", c_uint64),
        ("max_instructions", c_uint64),
        ("threads", c_uint32),
        ("check_races", c_int),
        ("check_waits", c_int),
        ("trace", c_void_p),
        ("trace_context", c_void_p),
    ]


class Report(ctypes.Structure):
    """gfxsim_report."""

    _fields_ = [
        ("blocks", c_uint64),
        ("waves", c_uint64),
        ("instructions", c_uint64),
        ("instructions_of_class", c_uint64 * 19),
        ("mfma_flops", c_uint64),
        ("seconds", c_double),
    ]


@dataclass
class Extent:
    """The bytes from a tensor's first element to its last. Extents that overlap, of views of one buffer, are joined."""

    begin: int
    end: int
    writable: bool
    name: str

    @classmethod
    def of(cls, name: str, tensor: torch.Tensor, writable: bool) -> Extent:
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        begin = tensor.data_ptr()
        return cls(begin, begin + (last + 1) * tensor.element_size(), writable, name)

    def join(self, other: Extent) -> None:
        self.end = max(self.end, other.end)
        self.writable |= other.writable
        self.name += f" and {other.name}"


def joined(extents: list[Extent]) -> list[Extent]:
    """Disjoint extents, in order."""
    result: list[Extent] = []
    for extent in sorted(extents, key=lambda e: e.begin):
        if result and extent.begin < result[-1].end:
            result[-1].join(extent)
        else:
            result.append(extent)
    return result


class Simulation:
    """The libraries in `folder`: libportattn.so, libportattn_hip.so and the simulator's HIP runtime. The folder must be
    the simulation's own: the same file loaded twice would be one library, with one idea of what a CPU tensor is."""

    def __init__(self, folder: Path):
        self.folder = folder
        with _environment(PORTATTN_HIP_SIM="1"):
            self.library = load_core(folder / "libportattn.so")
            self.library.nvte_cpu_device_type()  # reads the environment, once
        self.runtime = ctypes.CDLL(str(folder / RUNTIME))
        self.runtime.gfxsim_last_error.restype = ctypes.c_char_p
        self.runtime.gfxsim_hip_take_report.restype = c_uint64
        self.runtime.gfxsim_default_options.restype = Options

    def reset(self) -> None:
        """As for every test: registered memory alone, waves take turns."""
        self.runtime.gfxsim_hip_restrict_memory(1)
        self.order_waves(0)

    @contextlib.contextmanager
    def memory(self, inputs: dict, outputs: dict) -> Iterator[None]:
        """Lets kernels read `inputs` and also write `outputs`, tensors by name, and touch nothing else."""
        extents = [
            Extent.of(name, tensor, writable)
            for tensors, writable in ((inputs, False), (outputs, True))
            for name, tensor in tensors.items()
            if tensor is not None and tensor.numel() > 0
        ]
        registered = []
        try:
            for extent in joined(extents):
                self._register(extent)
                registered.append(extent)
            yield
        finally:
            for extent in registered:
                self.runtime.gfxsim_memory_unregister(c_void_p(extent.begin))

    def _register(self, extent: Extent) -> None:
        size = ctypes.c_size_t(extent.end - extent.begin)
        name = extent.name.encode()
        status = self.runtime.gfxsim_memory_register(c_void_p(extent.begin), size, int(extent.writable), name)
        assert status == 0, self.runtime.gfxsim_last_error().decode()

    def order_waves(self, seed: int) -> None:
        """Waves of a block run in a random order from now on; 0: they take turns."""
        options = self.runtime.gfxsim_default_options()
        options.seed = seed
        self.runtime.gfxsim_hip_set_options(ctypes.byref(options))

    def take_report(self) -> tuple[int, Report]:
        """Launches since the last call, and what they executed."""
        report = Report()
        return self.runtime.gfxsim_hip_take_report(ctypes.byref(report)), report


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
