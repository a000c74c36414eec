"""Runs compiled gfx942 code objects on the CPU, on numpy arrays:

    kernels = gfx942_sim.load("vector_add.co")
    report = kernels["vector_add"]((blocks,), (256,), a, b, out, n)

Every array argument is registered for the launch, so that a kernel can touch the arrays it was given and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfx942_sim.library import TRACE, KernelInfo, Report, SimulationError, check, library

__all__ = ["CodeObject", "Event", "Kernel", "LaunchReport", "SimulationError", "load", "registered"]


@dataclass(frozen=True)
class Event:
    """One executed instruction of one wave."""

    block: tuple[int, int, int]
    wave: int
    cls: str
    pc: int
    exec: int
    text: str


@dataclass(frozen=True)
class LaunchReport:
    blocks: int
    waves: int
    instructions: int
    mfma_flops: int
    seconds: float
    instructions_of_class: dict[str, int]


@contextlib.contextmanager
def registered(array: np.ndarray, name: str, writable: bool = True) -> Iterator[None]:
    """Lets kernels access the bytes of `array` meanwhile."""
    lib = library()
    check(lib.gfxsim_memory_register(array.ctypes.data, array.nbytes, writable, name.encode()))
    try:
        yield
    finally:
        if array.nbytes:
            check(lib.gfxsim_memory_unregister(array.ctypes.data))


class Kernel:
    def __init__(self, code_object: CodeObject, handle: int) -> None:
        self._object = code_object  # keeps it loaded
        self._handle = handle
        self.info: KernelInfo = library().gfxsim_kernel_get_info(handle).contents
        self.name = self.info.name.decode()

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        *arguments: Any,
        dynamic_lds: int = 0,
        seed: int = 0,
        threads: int = 0,
        check_races: bool = True,
        check_waits: bool = True,
        max_instructions: int = 0,
        trace: Callable[[Event], None] | None = None,
    ) -> LaunchReport:
        """Runs the kernel to its end; raises SimulationError. `seed` other than 0 runs waves in a random order."""
        lib = library()
        kernarg = self._pack(arguments)
        options = lib.gfxsim_default_options()
        options.seed, options.threads, options.max_instructions = seed, threads, max_instructions
        options.check_races, options.check_waits = check_races, check_waits
        if trace is not None:
            options.trace = _trace_function(trace)
            options.threads = 1
        report = Report()
        with contextlib.ExitStack() as stack:
            for number, array in enumerate(_distinct_arrays(arguments)):
                stack.enter_context(registered(array, f"array argument {number}", array.flags.writeable))
            check(
                lib.gfxsim_launch(
                    self._handle,
                    _three(grid),
                    _three(block),
                    dynamic_lds,
                    kernarg.ctypes.data,
                    kernarg.nbytes,
                    ctypes.byref(options),
                    ctypes.byref(report),
                )
            )
        return _report(report)

    def _pack(self, arguments: Sequence[Any]) -> np.ndarray:
        wanted = [a for a in self.info.arguments[: self.info.argument_count] if not a.kind.startswith(b"hidden_")]
        if len(wanted) != len(arguments):
            raise TypeError(f"{self.name} takes {len(wanted)} arguments, {len(arguments)} were given")
        kernarg = np.zeros(max(self.info.explicit_kernarg_bytes, 8), np.uint8)
        for description, value in zip(wanted, arguments, strict=True):
            data = _argument_bytes(value, description.size)
            kernarg[description.offset : description.offset + description.size] = np.frombuffer(data, np.uint8)
        return kernarg


class CodeObject:
    """A loaded code object: a mapping from names to kernels."""

    def __init__(self, content: bytes) -> None:
        handle = ctypes.c_void_p()
        check(library().gfxsim_object_load(content, len(content), ctypes.byref(handle)))
        self._handle = handle

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library().gfxsim_object_free(self._handle)

    def __getitem__(self, name: str) -> Kernel:
        handle = ctypes.c_void_p()
        check(library().gfxsim_object_kernel(self._handle, name.encode(), ctypes.byref(handle)))
        return Kernel(self, handle.value)

    def names(self) -> list[str]:
        lib = library()
        handles = (lib.gfxsim_object_kernel_at(self._handle, i) for i in range(len(self)))
        return [lib.gfxsim_kernel_get_info(handle).contents.name.decode() for handle in handles]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return library().gfxsim_object_kernel_count(self._handle)

    def symbol(self, name: str) -> np.ndarray:
        """The bytes of a __device__ variable, in place."""
        address, size = ctypes.c_void_p(), ctypes.c_size_t()
        check(library().gfxsim_object_symbol(self._handle, name.encode(), ctypes.byref(address), ctypes.byref(size)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size.value).from_address(address.value))


def load(source: str | Path | bytes) -> CodeObject:
    """A code object, from its file or its bytes."""
    return CodeObject(source if isinstance(source, bytes) else Path(source).read_bytes())


def _three(sizes: Sequence[int]) -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * 3)(*(*sizes, 1, 1)[:3])


def _argument_bytes(value: Any, size: int) -> bytes:
    """An array's address, a number in the width the kernel takes, a numpy scalar or bytes as they are."""
    if isinstance(value, np.ndarray):
        data = np.uint64(value.ctypes.data).tobytes()
    elif isinstance(value, np.generic):
        data = value.tobytes()
    elif isinstance(value, float):
        data = (np.float32 if size == 4 else np.float64)(value).tobytes()
    elif isinstance(value, int):
        data = value.to_bytes(size, "little", signed=value < 0)
    else:
        data = bytes(memoryview(value))
    if len(data) != size:
        raise TypeError(f"an argument has {len(data)} bytes, the kernel takes {size}")
    return data


def _distinct_arrays(arguments: Sequence[Any]) -> list[np.ndarray]:
    arrays = {value.ctypes.data: value for value in arguments if isinstance(value, np.ndarray) and value.nbytes}
    return list(arrays.values())


def _trace_function(trace: Callable[[Event], None]) -> Any:
    names = _class_names()

    def call(_: Any, event: Any) -> None:
        e = event.contents
        trace(Event(tuple(e.block), e.wave, names[e.cls], e.pc, e.exec, e.text.decode()))

    return TRACE(call)


def _class_names() -> list[str]:
    return [library().gfxsim_class_name(i).decode() for i in range(len(Report().instructions_of_class))]


def _report(report: Report) -> LaunchReport:
    counts = dict(zip(_class_names(), report.instructions_of_class, strict=True))
    return LaunchReport(report.blocks, report.waves, report.instructions, report.mfma_flops, report.seconds, counts)
