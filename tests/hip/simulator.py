"""Builds what a simulated AMD GPU needs, in build/: minutes at first, later what has changed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
from pathlib import Path

import hip_tools
from portattn.common.library import JAX_LIBRARY, TORCH_LIBRARY, LibraryError, library_path

TOOL = hip_tools.ROOT / "tools" / "gfx942_sim"
BUILD = hip_tools.ROOT / "build" / "gfx942_sim"
ARCH = os.environ.get("GFX942_SIM_ARCH", "gfx942")  # as the simulator reads it


@functools.cache
def library() -> Path:
    """libgfx942_sim_hip.so, the HIP runtime with the simulator inside."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    hip_tools.run(["cmake", "-S", TOOL, "-B", BUILD, *generator])
    hip_tools.run(["cmake", "--build", BUILD, "--parallel", len(os.sched_getaffinity(0))])
    return BUILD / "lib" / "libgfx942_sim_hip.so"


@functools.cache
def runtime() -> ctypes.CDLL:
    """The HIP runtime, in the global symbol scope of this process."""
    loaded = ctypes.CDLL(str(library()), mode=ctypes.RTLD_GLOBAL)
    loaded.gfxsim_last_error.restype = ctypes.c_char_p
    return loaded


@functools.cache
def package() -> Path:
    """A folder with portattn's libraries for the simulated GPU, the frontends' where they are built, and the simulating
    runtime beside them."""
    folder = hip_tools.build(ARCH, "portattn", "portattn_hip") / "lib"
    runtime = folder / library().name
    runtime.unlink(missing_ok=True)
    runtime.hardlink_to(library())  # one file under two names is loaded once
    for frontend in (TORCH_LIBRARY, JAX_LIBRARY):
        with contextlib.suppress(LibraryError):  # a build without it
            shutil.copy(library_path(frontend), folder)
    return folder
