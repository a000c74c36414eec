"""A whole attention problem for the C API: attributes, and buffers of every tensor that they ask for."""

from __future__ import annotations

import ctypes

from capi import (
    BACKWARD,
    DTYPES,
    FORMATS,
    FORWARD,
    MASKS,
    SUCCESS,
    Api,
    Buffer,
    GradInputs,
    GradOutputs,
    Inputs,
    Outputs,
    pack,
)

PADDING_MASKS = (MASKS["padding"], MASKS["padding_causal"], MASKS["padding_causal_bottom_right"])
DTYPE_NAMES = {value: name for name, value in DTYPES.items()}
POISON = 0xFF  # NaN in every floating point type

BASE = {
    "dtype": DTYPES["float32"], "batch_size": 2, "num_heads_q": 4, "num_heads_kv": 2, "head_dim_qk": 16,
    "head_dim_v": 24, "max_seqlen_q": 5, "max_seqlen_kv": 7, "is_training": 1,
}  # fmt: skip
BASE_THD = BASE | {"q_format": FORMATS["thd"], "kv_format": FORMATS["thd"], "total_tokens_q": 9, "total_tokens_kv": 13}


class Problem:
    """Tensors for `attributes`; contents are arbitrary but valid, outputs are poisoned."""

    def __init__(self, attributes: dict[str, float], device_type: int = 0, device_index: int = 0):
        self.attributes = attributes
        self.device = {"device_type": device_type, "device_index": device_index}
        self.dtype = DTYPE_NAMES[attributes["dtype"]]
        self.batch = attributes["batch_size"]
        self.heads = attributes["num_heads_q"]
        self.inputs = self._inputs()
        self.outputs = {"o": self._q_side(attributes["head_dim_v"]), "lse": self._lse()}
        self.grad_inputs = self.outputs | {"d_o": self._q_side(attributes["head_dim_v"], 0)}
        self.grad_outputs = self._grad_outputs()
        self.last_workspace: Buffer | None = None

    def get(self, name: str, default: int = 0) -> int:
        return self.attributes.get(name, default)

    def _make(self, dtype: str, shape: list[int], fill: int = 0) -> Buffer:
        return Buffer(dtype, shape, fill, **self.device)

    def _shape(self, side: str, heads: int, dims: list[int]) -> list[int]:
        batch, rows = self.batch, self.attributes[f"max_seqlen_{side}"]
        layout = self.get(f"{side}_format", FORMATS["bshd"])
        if layout == FORMATS["thd"]:
            return [self.attributes[f"total_tokens_{side}"], heads, *dims]
        orders = {"sbhd": [rows, batch, heads], "bshd": [batch, rows, heads], "bhsd": [batch, heads, rows]}
        return next(shape for name, shape in orders.items() if FORMATS[name] == layout) + dims

    def _q_side(self, dim: int, fill: int = POISON) -> Buffer:
        return self._make(self.dtype, self._shape("q", self.heads, [dim]), fill)

    def _kv_side(self, dim: int, fill: int = POISON) -> Buffer:
        return self._make(self.dtype, self._shape("kv", self.attributes["num_heads_kv"], [dim]), fill)

    def _lse(self) -> Buffer:
        return self._make("float32", self._shape("q", self.heads, []), POISON)

    def bias_shape(self) -> list[int]:
        rows = self.get("bias_seqlen_q", self.attributes["max_seqlen_q"])
        cols = self.get("bias_seqlen_kv", self.attributes["max_seqlen_kv"])
        return [self.get("bias_batch", 1), self.get("bias_heads", 1), rows, cols]

    def _cu_seqlens(self, side: str) -> Buffer:
        layout = self.get(f"{side}_format", FORMATS["bshd"])
        total = self.attributes[f"total_tokens_{side}" if layout == FORMATS["thd"] else f"max_seqlen_{side}"]
        step = total // max(self.batch, 1) if layout == FORMATS["thd"] else total
        values = [i * step for i in range(self.batch + 1)]
        return self._make("int32", [self.batch + 1]).write(ctypes.c_int32, values)

    def _inputs(self) -> dict[str, Buffer]:
        qk, v = self.attributes["head_dim_qk"], self.attributes["head_dim_v"]
        tensors = {"q": self._q_side(qk, 0), "k": self._kv_side(qk, 0), "v": self._kv_side(v, 0)}
        if self.get("bias_type") in (1, 2):
            tensors["bias"] = self._make(self.dtype, self.bias_shape())
        if self.get("bias_type") == 3:
            tensors["alibi_slopes"] = self._make("float32", [self.heads])
        if self.get("softmax_type") == 2:
            tensors["softmax_offset"] = self._make("float32", [self.heads])
        if self.get("mask_type") == MASKS["arbitrary"]:
            sizes = [self.attributes["max_seqlen_q"], self.attributes["max_seqlen_kv"]]
            tensors["attention_mask"] = self._make("byte", [self.batch, 1, *sizes])
        for side in ("q", "kv"):
            if self.get(f"{side}_format", 1) == FORMATS["thd"] or self.get("mask_type") in PADDING_MASKS:
                tensors[f"cu_seqlens_{side}"] = self._cu_seqlens(side)
        if self.get("dropout") > 0 and self.get("is_training"):
            tensors["rng_state"] = self._make("int64", [2]).write(ctypes.c_int64, [1, 2])
        return tensors

    def _grad_outputs(self) -> dict[str, Buffer]:
        qk, v = self.attributes["head_dim_qk"], self.attributes["head_dim_v"]
        tensors = {"dq": self._q_side(qk), "dk": self._kv_side(qk), "dv": self._kv_side(v)}
        if self.get("bias_grad"):
            tensors["dbias"] = self._make(self.dtype, self.bias_shape(), POISON)
        if self.get("softmax_type") == 2:
            tensors["d_softmax_offset"] = self._make("float32", [self.heads], POISON)
        return tensors

    def workspace(self, api: Api, handle: ctypes.c_void_p, direction: int) -> Buffer | None:
        status, size = api.workspace_bytes(handle, direction)
        assert status == SUCCESS, api.error()
        return self._make("byte", [size], POISON) if size else None

    def run(self, api: Api, handle: ctypes.c_void_p, direction: int) -> int:
        """One call with everything right; its status."""
        self.last_workspace = workspace = self.workspace(api, handle, direction)
        inputs = pack(Inputs, self.inputs)
        if direction == FORWARD:
            return api.forward(handle, inputs, pack(Outputs, self.outputs), workspace)
        assert direction == BACKWARD
        grads_in, grads_out = pack(GradInputs, self.grad_inputs), pack(GradOutputs, self.grad_outputs)
        return api.backward(handle, inputs, grads_in, grads_out, workspace)
