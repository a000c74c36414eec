"""NVTEFusedAttnConfig through ctypes: what a frontend asks about a call before there is any data."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p

from portattn.common.enums import ConfigAttr
from portattn.common.library import core

FORWARD, BACKWARD = 0, 1
INVALID_ARGUMENT, NOT_SUPPORTED = 1, 2
FLOAT_ATTRS = (ConfigAttr.ATTN_SCALE, ConfigAttr.SOFTCAP, ConfigAttr.DROPOUT)


@functools.cache
def _library() -> ctypes.CDLL:
    library = core()
    library.nvte_fused_attn_config_create.argtypes = [POINTER(c_void_p)]
    library.nvte_fused_attn_config_destroy.argtypes = [c_void_p]
    library.nvte_fused_attn_config_set_int.argtypes = [c_void_p, c_int, c_int64]
    library.nvte_fused_attn_config_set_float.argtypes = [c_void_p, c_int, c_double]
    library.nvte_fused_attn_workspace_size.argtypes = [c_void_p, c_int, POINTER(c_size_t)]
    library.nvte_get_fused_attn_backend.argtypes = [c_void_p, POINTER(c_int)]
    library.nvte_explain_fused_attn_backend.argtypes = [c_void_p, c_char_p, c_size_t, POINTER(c_size_t)]
    return library


def _check(status: int) -> None:
    """What the caller got wrong, or what no backend can do, is a ValueError; the rest a RuntimeError."""
    if status == 0:
        return
    text = core().nvte_get_last_error().decode()
    raise ValueError(text) if status in (INVALID_ARGUMENT, NOT_SUPPORTED) else RuntimeError(text)


class Config:
    """One config. `ints` is attribute, value, attribute, value, ...; `floats` are the values of FLOAT_ATTRS."""

    def __init__(self, ints: Sequence[int], floats: Sequence[float]) -> None:
        self._handle = c_void_p()
        _check(_library().nvte_fused_attn_config_create(ctypes.byref(self._handle)))
        for attr, value in zip(ints[::2], ints[1::2], strict=True):
            _check(_library().nvte_fused_attn_config_set_int(self._handle, attr, value))
        for attr, value in zip(FLOAT_ATTRS, floats, strict=True):
            _check(_library().nvte_fused_attn_config_set_float(self._handle, attr, value))

    def __del__(self) -> None:
        if self._handle:
            _library().nvte_fused_attn_config_destroy(self._handle)

    def workspace_bytes(self, direction: int) -> int:
        size = c_size_t()
        _check(_library().nvte_fused_attn_workspace_size(self._handle, direction, ctypes.byref(size)))
        return size.value

    def check_backend(self) -> None:
        """Raises what a call would raise."""
        _check(_library().nvte_get_fused_attn_backend(self._handle, ctypes.byref(c_int())))

    def explain(self) -> str:
        """One line for each backend: chosen, refused with its reasons, or not tried."""
        function, length = _library().nvte_explain_fused_attn_backend, c_size_t()
        _check(function(self._handle, None, 0, ctypes.byref(length)))
        text = ctypes.create_string_buffer(length.value + 1)
        _check(function(self._handle, text, len(text), ctypes.byref(length)))
        return text.value.decode()
