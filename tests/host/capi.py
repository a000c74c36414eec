"""The C API through ctypes, raw: any pointer, any number, nothing checked on the way. Needs no torch and no numpy."""

from __future__ import annotations

import ctypes
import math
import re
from ctypes import c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

HEADERS = Path(__file__).resolve().parents[2] / "csrc" / "include" / "portattn"
MAX_DIMS = 5


def enum_values(header: str, prefix: str) -> dict[str, int]:
    """Name without prefix, lower case -> value, of a header's enumerators."""
    text = (HEADERS / header).read_text()
    return {name.lower(): int(value) for name, value in re.findall(rf"\b{prefix}(\w+) = (-?\d+)", text)}


ATTRS = enum_values("config.h", "NVTE_ATTR_")
FLOAT_ATTRS = ("attn_scale", "softcap", "dropout")
DTYPES = enum_values("types.h", "kNVTE")
ITEM_BYTES = {"byte": 1, "int32": 4, "int64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
SUCCESS, INVALID, NOT_SUPPORTED, TOO_SMALL, DEVICE_ERROR, NOT_BUILT, INTERNAL = range(7)
FORWARD, BACKWARD = 0, 1
FORMATS = {"sbhd": 0, "bshd": 1, "thd": 2, "bhsd": 7}
MASKS = {
    "no_mask": 0, "padding": 1, "causal": 2, "padding_causal": 3, "causal_bottom_right": 4,
    "padding_causal_bottom_right": 5, "arbitrary": 64,
}  # fmt: skip
BACKENDS = {"none": -1, "fused_varlen": 64, "small_seq": 65, "unfused": 66, "score_mod_jit": 67}


class Tensor(ctypes.Structure):
    """NVTETensor."""

    _fields_ = [
        ("struct_size", c_size_t), ("data", c_void_p), ("dtype", c_int), ("ndim", c_int32),
        ("shape", c_int64 * MAX_DIMS), ("strides", c_int64 * MAX_DIMS), ("device_type", c_int),
        ("device_index", c_int32),
    ]  # fmt: skip


def _bundle(name: str, *fields: str) -> type[ctypes.Structure]:
    layout = [("struct_size", c_size_t)] + [(field, c_void_p) for field in fields]
    return type(name, (ctypes.Structure,), {"_fields_": layout, "names": fields})


Inputs = _bundle(
    "Inputs", "q", "k", "v", "bias", "softmax_offset", "alibi_slopes", "attention_mask", "cu_seqlens_q",
    "cu_seqlens_kv", "cu_seqlens_q_padded", "cu_seqlens_kv_padded", "rng_state",
)  # fmt: skip
Outputs = _bundle("Outputs", "o", "lse")
GradInputs = _bundle("GradInputs", "o", "lse", "d_o")
GradOutputs = _bundle("GradOutputs", "dq", "dk", "dv", "dbias", "d_softmax_offset")


def contiguous(shape: list[int]) -> list[int]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= max(size, 1)
    return strides


LIBC = ctypes.CDLL(None)
LIBC.posix_memalign.argtypes = [c_void_p, c_size_t, c_size_t]
LIBC.free.argtypes = [c_void_p]


class Buffer:
    """Memory of its own, 256-byte aligned and not a byte longer than asked, and a Tensor that describes it."""

    def __init__(self, dtype: str, shape: list[int], fill: int = 0, device_type: int = 0, device_index: int = 0):
        self.num_bytes = math.prod(shape) * ITEM_BYTES[dtype]
        memory = c_void_p()
        assert LIBC.posix_memalign(ctypes.addressof(memory), 256, self.num_bytes) == 0
        self.memory = memory.value
        ctypes.memset(self.memory, fill, self.num_bytes)
        self.tensor = Tensor(ctypes.sizeof(Tensor), self.memory, DTYPES[dtype], len(shape))
        self.tensor.shape[: len(shape)] = shape
        self.tensor.strides[: len(shape)] = contiguous(shape)
        self.tensor.device_type, self.tensor.device_index = device_type, device_index

    def __del__(self):
        LIBC.free(self.memory)

    def write(self, ctype: type, values: list) -> Buffer:
        (ctype * len(values)).from_address(self.memory)[:] = values
        return self

    def read(self, ctype: type) -> list:
        return list((ctype * (self.num_bytes // ctypes.sizeof(ctype))).from_address(self.memory))


def pack(kind: type[ctypes.Structure], buffers: dict[str, Buffer]) -> ctypes.Structure:
    """A bundle of pointers to the tensors of `buffers`; what is not in it is null."""
    bundle = kind(ctypes.sizeof(kind))
    for name in kind.names:
        if name in buffers:
            setattr(bundle, name, ctypes.addressof(buffers[name].tensor))
    return bundle


class Api:
    """The library at `path`, with argument types."""

    def __init__(self, path: Path | str):
        lib = ctypes.CDLL(str(path))
        for name in ("nvte_get_last_error", "nvte_version", "nvte_fused_attn_backend_name"):
            getattr(lib, name).restype = c_char_p
        lib.nvte_fused_attn_backend_name.argtypes = [c_int]
        for name in ("create", "destroy"):
            getattr(lib, f"nvte_fused_attn_config_{name}").argtypes = [c_void_p]
        for kind, ctype in (("int", c_int64), ("float", c_double)):
            getattr(lib, f"nvte_fused_attn_config_set_{kind}").argtypes = [c_void_p, c_int, ctype]
            getattr(lib, f"nvte_fused_attn_config_get_{kind}").argtypes = [c_void_p, c_int, c_void_p]
        lib.nvte_fused_attn_workspace_size.argtypes = [c_void_p, c_int, c_void_p]
        lib.nvte_fused_attn_fwd.argtypes = [c_void_p] * 5
        lib.nvte_fused_attn_bwd.argtypes = [c_void_p] * 6
        lib.nvte_get_fused_attn_backend.argtypes = [c_void_p, c_void_p]
        lib.nvte_explain_fused_attn_backend.argtypes = [c_void_p, c_void_p, c_size_t, c_void_p]
        lib.nvte_describe_devices.argtypes = [c_void_p, c_size_t, c_void_p]
        self.lib = lib

    def error(self) -> str:
        return self.lib.nvte_get_last_error().decode()

    def config(self, **attributes: float) -> c_void_p:
        """A config handle; every attribute must be taken."""
        handle = c_void_p()
        assert self.lib.nvte_fused_attn_config_create(ctypes.addressof(handle)) == SUCCESS
        for name, value in attributes.items():
            assert self.set(handle, name, value) == SUCCESS, self.error()
        return handle

    def destroy(self, handle: c_void_p) -> None:
        assert self.lib.nvte_fused_attn_config_destroy(handle) == SUCCESS

    def set(self, handle: c_void_p, name: str, value: float) -> int:
        kind = "float" if name in FLOAT_ATTRS else "int"
        return getattr(self.lib, f"nvte_fused_attn_config_set_{kind}")(handle, ATTRS[name], value)

    def workspace_bytes(self, handle: c_void_p, direction: int) -> tuple[int, int]:
        """(status, bytes)"""
        size = c_size_t(0)
        status = self.lib.nvte_fused_attn_workspace_size(handle, direction, ctypes.addressof(size))
        return status, size.value

    def backend(self, handle: c_void_p) -> tuple[int, str]:
        number = c_int(0)
        status = self.lib.nvte_get_fused_attn_backend(handle, ctypes.addressof(number))
        return status, self.lib.nvte_fused_attn_backend_name(number).decode()

    def explain(self, handle: c_void_p) -> str:
        length = c_size_t(0)
        text = ctypes.create_string_buffer(1 << 14)
        status = self.lib.nvte_explain_fused_attn_backend(handle, text, len(text), ctypes.addressof(length))
        assert status == SUCCESS, self.error()
        return text.value.decode()

    def forward(self, handle: c_void_p, inputs: object, outputs: object, workspace: Buffer | None = None) -> int:
        return self.lib.nvte_fused_attn_fwd(handle, _address(inputs), _address(outputs), _tensor(workspace), None)

    def backward(
        self, handle: c_void_p, inputs: object, grads_in: object, grads_out: object, workspace: Buffer | None = None
    ) -> int:
        addresses = [_address(bundle) for bundle in (inputs, grads_in, grads_out)]
        return self.lib.nvte_fused_attn_bwd(handle, *addresses, _tensor(workspace), None)


def _address(bundle: object) -> int | None:
    return bundle if bundle is None or isinstance(bundle, int) else ctypes.addressof(bundle)


def _tensor(buffer: Buffer | None) -> int | None:
    return None if buffer is None else ctypes.addressof(buffer.tensor)
