"""The C interface of libgfx942_sim.so through ctypes; see include/gfx942_sim.h for what each function does."""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_double, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

from gfx942_sim.build import build

STATUS_NAMES = (
    "ok",
    "invalid argument",
    "invalid object",
    "not found",
    "unknown instruction",
    "memory fault",
    "race",
    "hazard",
    "hang",
    "trap",
    "tool missing",
)
CLASS_COUNT = 19


class SimulationError(RuntimeError):
    """A call that failed: `status` is one of STATUS_NAMES, the text says what happened where."""

    def __init__(self, status: int, message: str) -> None:
        self.status = STATUS_NAMES[status] if status < len(STATUS_NAMES) else str(status)
        super().__init__(f"{self.status}: {message}")


class Argument(ctypes.Structure):
    _fields_ = (("kind", c_char_p), ("offset", c_uint32), ("size", c_uint32))


class KernelInfo(ctypes.Structure):
    _fields_ = (
        ("name", c_char_p),
        ("kernarg_bytes", c_uint32),
        ("explicit_kernarg_bytes", c_uint32),
        ("static_lds_bytes", c_uint32),
        ("scratch_bytes", c_uint32),
        ("max_threads", c_uint32),
        ("vgprs", c_uint32),
        ("agprs", c_uint32),
        ("sgprs", c_uint32),
        ("vgpr_spills", c_uint32),
        ("sgpr_spills", c_uint32),
        ("argument_count", c_uint32),
        ("arguments", POINTER(Argument)),
    )


class Event(ctypes.Structure):
    _fields_ = (
        ("block", c_uint32 * 3),
        ("wave", c_uint32),
        ("cls", c_int),
        ("pc", c_uint64),
        ("exec", c_uint64),
        ("text", c_char_p),
    )


TRACE = ctypes.CFUNCTYPE(None, c_void_p, POINTER(Event))


class Options(ctypes.Structure):
    _fields_ = (
        ("seed", c_uint64),
        ("max_instructions", c_uint64),
        ("threads", c_uint32),
        ("check_races", c_int),
        ("check_waits", c_int),
        ("trace", TRACE),
        ("trace_context", c_void_p),
    )


class Report(ctypes.Structure):
    _fields_ = (
        ("blocks", c_uint64),
        ("waves", c_uint64),
        ("instructions", c_uint64),
        ("instructions_of_class", c_uint64 * CLASS_COUNT),
        ("mfma_flops", c_uint64),
        ("seconds", c_double),
    )


_SIGNATURES = {
    "gfxsim_object_load": (c_int, [c_void_p, c_size_t, POINTER(c_void_p)]),
    "gfxsim_object_free": (None, [c_void_p]),
    "gfxsim_object_kernel_count": (c_size_t, [c_void_p]),
    "gfxsim_object_kernel_at": (c_void_p, [c_void_p, c_size_t]),
    "gfxsim_object_kernel": (c_int, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "gfxsim_object_symbol": (c_int, [c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_size_t)]),
    "gfxsim_kernel_get_info": (POINTER(KernelInfo), [c_void_p]),
    "gfxsim_memory_register": (c_int, [c_void_p, c_size_t, c_int, c_char_p]),
    "gfxsim_memory_unregister": (c_int, [c_void_p]),
    "gfxsim_class_name": (c_char_p, [c_int]),
    "gfxsim_default_options": (Options, []),
    "gfxsim_launch": (
        c_int,
        [
            c_void_p,
            POINTER(c_uint32),
            POINTER(c_uint32),
            c_uint32,
            c_void_p,
            c_size_t,
            POINTER(Options),
            POINTER(Report),
        ],
    ),
    "gfxsim_last_error": (c_char_p, []),
}


@functools.cache
def library() -> ctypes.CDLL:
    """GFX942_SIM_LIBRARY where it is set, else built for this CPU when it is first needed."""
    loaded = ctypes.CDLL(str(Path(os.environ.get("GFX942_SIM_LIBRARY") or build())))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def check(status: int) -> None:
    if status != 0:
        raise SimulationError(status, library().gfxsim_last_error().decode())
