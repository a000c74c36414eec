"""Finds portattn's shared libraries and asks the C API, through ctypes, the questions that need no framework."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

from portattn.common import env

CORE_LIBRARY = "libportattn.so"
TORCH_LIBRARY = "libportattn_torch.so"
JAX_LIBRARY = "libportattn_jax.so"


class LibraryError(ImportError):
    """A shared library of portattn is missing or does not load."""


def library_path(name: str) -> Path:
    """Path of library `name`; a LibraryError that says what to do if it is not there."""
    folder = env.library_dir() or Path(__file__).resolve().parents[1] / "lib"
    path = folder / name
    if not path.exists():
        raise LibraryError(
            f"{name} is not in {folder}. It is built when the package is installed: run `pip install .` in the source "
            "tree (with torch installed first for the torch operators, with jax for its handlers), or set "
            "PORTATTN_LIBRARY_DIR to its folder."
        )
    return path


@functools.cache
def core() -> ctypes.CDLL:
    """The C API."""
    return load_core(library_path(CORE_LIBRARY))


def load_core(path: Path) -> ctypes.CDLL:
    """The C API in the file `path`."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryError(f"{path} does not load: {error}") from error
    library.nvte_version.restype = ctypes.c_char_p
    library.nvte_get_last_error.restype = ctypes.c_char_p
    return library


def core_version() -> str:
    return core().nvte_version().decode()


def _read_text(function: Callable[..., int]) -> str:
    """Calls f(char* text, size_t capacity, size_t* length) twice: for the length, then for the text."""
    length = ctypes.c_size_t()
    function(None, ctypes.c_size_t(0), ctypes.byref(length))
    text = ctypes.create_string_buffer(length.value + 1)
    if function(text, ctypes.c_size_t(len(text)), ctypes.byref(length)) != 0:
        raise LibraryError(core().nvte_get_last_error().decode())
    return text.value.decode()


def describe_devices() -> str:
    """One line for each device library: what it runs on, or why it is not loaded."""
    return _read_text(core().nvte_describe_devices)
