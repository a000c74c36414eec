"""Problem: everything static about one attention call, and what follows from it: the names, dimensions and shapes of
its operands and results, and the attributes of its config.

Operands and results go by name everywhere. The dimensions of each, in memory order, are what vmap, sharding and the
shapes of results are derived from, so that a new operand is one line in `dims_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portattn.common.config import FORWARD
from portattn.common.enums import BACKENDS, DTYPES, ConfigAttr, enum_value
from portattn_jax.enums import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVFormat, QKVLayout

Shape = tuple[int, ...]
# Operands whose dimensions may be 1 for any size.
BROADCASTABLE = ("bias", "dbias", "attention_mask")


@dataclass(frozen=True)
class Problem:
    """`operands` names the forward's, in order. `is_packed`: the rows of the batch are one buffer of tokens that holds
    `max_segments` sequences a row, unused ones included."""

    layout: QKVLayout
    mask_type: AttnMaskType
    bias_type: AttnBiasType
    softmax_type: AttnSoftmaxType
    attn_scale: float
    softcap: float
    dropout: float
    window_size: tuple[int, int]
    bottom_right_diagonal: bool
    chunk_size: int
    deterministic: bool
    backend: str | None
    strict: bool
    is_packed: bool
    max_segments: int
    max_segment_seqlens: tuple[int, int]
    operands: tuple[str, ...]
    training: bool = False
    bias_grad: bool = False

    def operand_names(self, direction: int) -> tuple[str, ...]:
        return self.operands if direction == FORWARD else (*self.operands, "o", "lse", "d_o")

    def result_names(self, direction: int) -> tuple[str, ...]:
        if direction == FORWARD:
            return ("o", "lse") if self.training else ("o",)
        names = [f"d{name}" for name in self.operands if name in ("qkv", "q", "kv", "k", "v")]
        names += ["dbias"] if self.bias_grad else []
        return (*names, *(["d_softmax_offset"] if "softmax_offset" in self.operands else []))


def dims_of(layout: QKVLayout, name: str, ndim: int) -> tuple[str, ...]:
    """Names of the dimensions of an operand or result."""
    tokens = {
        "q": ("s_q", "h", "d_qk"),
        "k": ("s_kv", "h_kv", "d_qk"),
        "v": ("s_kv", "h_kv", "d_v"),
        "qkv": ("s_q", "h", "d_qk"),
        "kv": ("s_kv", "h_kv", "d_qk"),
        "o": ("s_q", "h", "d_v"),
    }
    base = "o" if name in ("d_o", "lse") else name.removeprefix("d")
    if base in tokens:
        letters = dict(zip("shd", tokens[base], strict=True), b="b")
        dims = [letters[letter] for letter in layout.dims]
        if base in ("qkv", "kv"):
            dims.insert(layout.packed_dim, "packed")
        return tuple(dims[:-1] if name == "lse" else dims)
    others = {
        "bias": ("b", "h", "s_q", "s_kv"),
        "attention_mask": ("b", "h", "s_q", "s_kv"),
        "softmax_offset": ("h",),
        "_softmax_offset": ("h",),
        "alibi_slopes": ("b", "h")[2 - ndim :],
        "segment_ids_q": ("b", "s_q"),
        "segment_ids_kv": ("b", "s_kv"),
        "rng_state": ("words",),
    }
    return others.get(base, ("b", "segments"))  # seqlens_* and seq_offsets_*


def sizes_of(problem: Problem, shapes: dict[str, Shape]) -> dict[str, int]:
    """Size of each dimension, from the tokens' shapes."""
    sizes: dict[str, int] = {}
    for name in ("qkv", "kv", "q", "k", "v"):
        if name in shapes:
            dims = dims_of(problem.layout, name, len(shapes[name]))
            sizes |= {dim: size for dim, size in zip(dims, shapes[name], strict=True) if dim not in sizes}
    if "qkv" in shapes:
        sizes |= {"s_kv": sizes["s_q"], "h_kv": sizes["h"]}
    return {"d_v": sizes["d_qk"]} | sizes


def results_of(
    problem: Problem, direction: int, shapes: dict[str, Shape], dtype: str
) -> tuple[tuple[str, Shape, str], ...]:
    """Name, shape and dtype of each result."""
    sizes = sizes_of(problem, shapes)

    def shape_of(name: str) -> Shape:
        if name == "dbias":
            return shapes["bias"]
        ndim = 1 if name == "d_softmax_offset" else 4
        packed = len(name) - 1  # of "dqkv" and "dkv"
        return tuple(packed if dim == "packed" else sizes[dim] for dim in dims_of(problem.layout, name, ndim))

    float32 = ("lse", "d_softmax_offset")
    return tuple(
        (name, shape_of(name), "float32" if name in float32 else dtype) for name in problem.result_names(direction)
    )


def config_ints(problem: Problem, dtype: str, shapes: dict[str, Shape]) -> tuple[int, ...]:
    """Attribute, value, attribute, value, ... without the device."""
    sizes = sizes_of(problem, shapes)
    attr = ConfigAttr
    qkv_format = QKVFormat.THD if problem.is_packed else problem.layout.get_qkv_format()
    has_own_diagonal = problem.mask_type.is_causal()
    values = {
        attr.DTYPE: enum_value(dtype, DTYPES, "dtype"),
        attr.Q_FORMAT: qkv_format.value,
        attr.KV_FORMAT: qkv_format.value,
        attr.BATCH_SIZE: sizes["b"] * (problem.max_segments if problem.is_packed else 1),
        attr.NUM_HEADS_Q: sizes["h"],
        attr.NUM_HEADS_KV: sizes["h_kv"],
        attr.HEAD_DIM_QK: sizes["d_qk"],
        attr.HEAD_DIM_V: sizes["d_v"],
        attr.MAX_SEQLEN_Q: sizes["s_q"],
        attr.MAX_SEQLEN_KV: sizes["s_kv"],
        attr.MASK_TYPE: problem.mask_type.value,
        attr.WINDOW_LEFT: problem.window_size[0],
        attr.WINDOW_RIGHT: problem.window_size[1],
        attr.CHUNK_SIZE: problem.chunk_size,
        attr.BIAS_TYPE: problem.bias_type.value,
        attr.BIAS_GRAD: int(problem.bias_grad),
        attr.SOFTMAX_TYPE: problem.softmax_type.value,
        attr.IS_TRAINING: int(problem.training),
        attr.DETERMINISTIC: int(problem.deterministic),
        attr.BACKEND: enum_value(problem.backend, BACKENDS, "backend"),
        attr.STRICT: int(problem.strict),
        attr.MAX_SEGMENT_SEQLEN_Q: problem.max_segment_seqlens[0],
        attr.MAX_SEGMENT_SEQLEN_KV: problem.max_segment_seqlens[1],
    }
    if problem.bottom_right_diagonal and not has_own_diagonal:
        values[attr.BOTTOM_RIGHT_DIAGONAL] = 1
    if problem.is_packed:
        values[attr.TOTAL_TOKENS_Q] = sizes["b"] * sizes["s_q"]
        values[attr.TOTAL_TOKENS_KV] = sizes["b"] * sizes["s_kv"]
    if "bias" in shapes:
        names = (attr.BIAS_BATCH, attr.BIAS_HEADS, attr.BIAS_SEQLEN_Q, attr.BIAS_SEQLEN_KV)
        values |= dict(zip(names, shapes["bias"], strict=True))
    return tuple(int(number) for pair in values.items() for number in pair)


def config_floats(problem: Problem) -> tuple[float, float, float]:
    return (problem.attn_scale, problem.softcap, problem.dropout)


def named(problem: Problem, direction: int, values: Sequence) -> dict:
    """Operands by name."""
    return dict(zip(problem.operand_names(direction), values, strict=True))
