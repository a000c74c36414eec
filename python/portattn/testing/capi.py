"""The C API on torch tensors, through ctypes: what the kernel tests drive.

Nothing is copied, converted or made contiguous on the way, so raw strides, poisoned padding and hostile cu_seqlens
reach the library as they are. Names are those of csrc/include/portattn without their prefix, in lower case.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from typing import Protocol

import torch

from portattn.common.enums import BACKENDS, BIAS_TYPES, MASK_TYPES, QKV_FORMATS, SOFTMAX_TYPES
from portattn.common.library import core

ATTRS = {
    "dtype": 0, "q_format": 1, "kv_format": 2, "batch_size": 3, "num_heads_q": 4, "num_heads_kv": 5,
    "head_dim_qk": 6, "head_dim_v": 7, "max_seqlen_q": 8, "max_seqlen_kv": 9, "total_tokens_q": 10,
    "total_tokens_kv": 11, "mask_type": 16, "window_left": 17, "window_right": 18, "bottom_right_diagonal": 19,
    "chunk_size": 20, "attn_scale": 32, "softcap": 33, "dropout": 34, "bias_type": 35, "bias_batch": 36,
    "bias_heads": 37, "bias_seqlen_q": 38, "bias_seqlen_kv": 39, "bias_grad": 40, "softmax_type": 41,
    "allow_tf32": 42, "is_training": 48, "deterministic": 49, "backend": 50, "strict": 51, "device_type": 52,
    "device_index": 53, "max_segment_seqlen_q": 54, "max_segment_seqlen_kv": 55,
}  # fmt: skip
FLOAT_ATTRS = {"attn_scale", "softcap", "dropout"}
DTYPES = {
    torch.uint8: 0, torch.int16: 1, torch.int32: 2, torch.int64: 3, torch.float32: 4, torch.float16: 5,
    torch.bfloat16: 6, torch.float64: 64,
}  # fmt: skip
CUDA_DEVICE, HIP_DEVICE = 1, 2
STATUSES = (
    "success", "invalid_argument", "not_supported", "workspace_too_small", "device_error", "not_built",
    "internal_error",
)  # fmt: skip
ENUMS = {
    "dtype": DTYPES, "q_format": QKV_FORMATS, "kv_format": QKV_FORMATS, "mask_type": MASK_TYPES,
    "bias_type": BIAS_TYPES, "softmax_type": SOFTMAX_TYPES, "backend": BACKENDS,
}  # fmt: skip

FORWARD, BACKWARD = 0, 1
MAX_DIMS = 5
GUARD_BYTES = 512  # on both sides of a workspace, checked after each call


class NVTEError(RuntimeError):
    """A call that returned anything but NVTE_SUCCESS."""

    def __init__(self, status: int, text: str):
        self.status = STATUSES[status] if 0 <= status < len(STATUSES) else str(status)
        super().__init__(f"{self.status}: {text}")


class Tensor(ctypes.Structure):
    """NVTETensor."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("dtype", c_int),
        ("ndim", c_int32),
        ("shape", c_int64 * MAX_DIMS),
        ("strides", c_int64 * MAX_DIMS),
        ("device_type", c_int),
        ("device_index", c_int32),
    ]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Tensor:
        view = cls(struct_size=ctypes.sizeof(cls), data=tensor.data_ptr(), dtype=DTYPES[tensor.dtype])
        view.ndim = tensor.dim()
        view.shape[: tensor.dim()] = tensor.shape
        view.strides[: tensor.dim()] = tensor.stride()
        view.device_type = device_type(tensor.device)
        view.device_index = tensor.device.index or 0
        return view


def _bundle(name: str, *fields: str) -> type:
    """A struct of tensor pointers that starts with its own size."""
    layout = [("struct_size", c_size_t)] + [(field, POINTER(Tensor)) for field in fields]
    return type(name, (ctypes.Structure,), {"_fields_": layout})


Inputs = _bundle(
    "Inputs", "q", "k", "v", "bias", "softmax_offset", "alibi_slopes", "attention_mask", "cu_seqlens_q",
    "cu_seqlens_kv", "cu_seqlens_q_padded", "cu_seqlens_kv_padded", "rng_state",
)  # fmt: skip
Outputs = _bundle("Outputs", "o", "lse")
GradInputs = _bundle("GradInputs", "o", "lse", "d_o")
GradOutputs = _bundle("GradOutputs", "dq", "dk", "dv", "dbias", "d_softmax_offset")


def _pack(kind: type, tensors: dict[str, torch.Tensor | None]) -> ctypes.Structure:
    """Fills a bundle; a missing tensor is a null pointer."""
    bundle = kind(struct_size=ctypes.sizeof(kind))
    for name, tensor in tensors.items():
        if tensor is not None:
            setattr(bundle, name, ctypes.pointer(Tensor.of(tensor)))
    return bundle


class Provider(Protocol):
    """A library with the C API, and what it needs to know about the memory of a call."""

    library: ctypes.CDLL

    def memory(self, inputs: dict, outputs: dict) -> contextlib.AbstractContextManager[None]:
        """Entered around a call that reads `inputs` and writes `outputs`, tensors by name."""


class Installed:
    """The library of the package, which takes any memory."""

    def __init__(self) -> None:
        self.library = core()

    def memory(self, inputs: dict, outputs: dict) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


_provider: Provider | None = None


def provider() -> Provider:
    if _provider is None:
        _use(Installed())
    return _provider


@contextlib.contextmanager
def using(new: Provider) -> Iterator[None]:
    """Lets everything here call the library of `new`."""
    before = provider()
    _use(new)
    try:
        yield
    finally:
        _use(before)


def _use(new: Provider) -> None:
    global _provider
    _provider = new
    _declare(new.library)


def library() -> ctypes.CDLL:
    """The C API with the argument types of what is called here."""
    return provider().library


def _declare(lib: ctypes.CDLL) -> None:
    lib.nvte_fused_attn_backend_name.restype = c_char_p
    lib.nvte_fused_attn_config_create.argtypes = [POINTER(c_void_p)]
    lib.nvte_fused_attn_config_destroy.argtypes = [c_void_p]
    lib.nvte_fused_attn_config_set_int.argtypes = [c_void_p, c_int, c_int64]
    lib.nvte_fused_attn_config_set_float.argtypes = [c_void_p, c_int, c_double]
    lib.nvte_fused_attn_workspace_size.argtypes = [c_void_p, c_int, POINTER(c_size_t)]
    lib.nvte_fused_attn_fwd.argtypes = [c_void_p] + [c_void_p] * 4
    lib.nvte_fused_attn_bwd.argtypes = [c_void_p] + [c_void_p] * 5
    lib.nvte_get_fused_attn_backend.argtypes = [c_void_p, POINTER(c_int)]
    lib.nvte_explain_fused_attn_backend.argtypes = [c_void_p, c_char_p, c_size_t, POINTER(c_size_t)]


def device_type(device: torch.device) -> int:
    """NVTEDeviceType of the tensors on `device`."""
    if device.type == "cpu":
        return library().nvte_cpu_device_type()
    return HIP_DEVICE if torch.version.hip else CUDA_DEVICE


def check(status: int) -> None:
    if status != 0:
        raise NVTEError(status, library().nvte_get_last_error().decode())


class Config:
    """NVTEFusedAttnConfig; attributes by name, enums by name or number."""

    def __init__(self, **attributes: object):
        self.handle = c_void_p()
        self._library = library()
        check(library().nvte_fused_attn_config_create(ctypes.byref(self.handle)))
        for name, value in attributes.items():
            self.set(name, value)

    def __del__(self):
        if self.handle:
            self._library.nvte_fused_attn_config_destroy(self.handle)

    def set(self, name: str, value: object) -> None:
        value = ENUMS.get(name, {}).get(value, value)
        setter = "set_float" if name in FLOAT_ATTRS else "set_int"
        check(getattr(library(), f"nvte_fused_attn_config_{setter}")(self.handle, ATTRS[name], value))

    def workspace_bytes(self, direction: int) -> int:
        size = c_size_t()
        check(library().nvte_fused_attn_workspace_size(self.handle, direction, ctypes.byref(size)))
        return size.value

    def backend(self) -> str:
        number = c_int()
        check(library().nvte_get_fused_attn_backend(self.handle, ctypes.byref(number)))
        return library().nvte_fused_attn_backend_name(number.value).decode()

    def explain(self) -> str:
        length = c_size_t()
        text = ctypes.create_string_buffer(1 << 16)
        check(library().nvte_explain_fused_attn_backend(self.handle, text, len(text), ctypes.byref(length)))
        return text.value.decode()


class Workspace:
    """Scratch of exactly the asked size, full of NaN, with guards that no kernel may touch."""

    def __init__(self, config: Config, direction: int, device: torch.device):
        size = config.workspace_bytes(direction)
        self.buffer = torch.full((size + 2 * GUARD_BYTES + 256,), 0xFF, dtype=torch.uint8, device=device)
        first = GUARD_BYTES + -(self.buffer.data_ptr() + GUARD_BYTES) % 256
        self.tensor = self.buffer[first : first + size] if size else None

    def pointer(self):
        return None if self.tensor is None else ctypes.pointer(Tensor.of(self.tensor))

    def check_guards(self) -> None:
        if self.tensor is not None:
            self.tensor.fill_(0xFF)
        assert bool((self.buffer == 0xFF).all()), "a kernel wrote outside its workspace"


def _stream(stream: object, device: torch.device) -> c_void_p | None:
    if device.type == "cpu":
        return None
    return c_void_p((stream or torch.cuda.current_stream(device)).cuda_stream)


def forward(
    config: Config, inputs: dict, outputs: dict, *, workspace: Workspace | None = None, stream=None
) -> Workspace:
    """nvte_fused_attn_fwd. Tensors by the names of the C structs; a workspace may be kept for graph capture."""
    device = inputs["q"].device
    workspace = workspace or Workspace(config, FORWARD, device)
    with provider().memory(inputs, {**outputs, "workspace": workspace.tensor}):
        check(
            library().nvte_fused_attn_fwd(
                config.handle, ctypes.byref(_pack(Inputs, inputs)), ctypes.byref(_pack(Outputs, outputs)),
                workspace.pointer(), _stream(stream, device),
            )
        )  # fmt: skip
    return workspace


def backward(
    config: Config,
    inputs: dict,
    grad_inputs: dict,
    grad_outputs: dict,
    *,
    workspace: Workspace | None = None,
    stream=None,
) -> Workspace:
    """nvte_fused_attn_bwd, likewise."""
    device = inputs["q"].device
    workspace = workspace or Workspace(config, BACKWARD, device)
    with provider().memory({**inputs, **grad_inputs}, {**grad_outputs, "workspace": workspace.tensor}):
        check(
            library().nvte_fused_attn_bwd(
                config.handle, ctypes.byref(_pack(Inputs, inputs)), ctypes.byref(_pack(GradInputs, grad_inputs)),
                ctypes.byref(_pack(GradOutputs, grad_outputs)), workspace.pointer(), _stream(stream, device),
            )
        )  # fmt: skip
    return workspace
