"""Runs fused_attn, or what behaves like it, against the float64 oracle: o, lse and every gradient.

Tokens outside every sequence are NaN in q, k, v and in the cotangent, which is random and of order 1 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from portattn.testing.compare import assert_close
from portattn.testing.reference import Rules, Span, attention
from portattn_jax import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVLayout, SequenceDescriptor, fused_attn

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
Segments = tuple[tuple[tuple[int, int], ...], ...]  # for each row: (start, length) of each segment


@dataclass(frozen=True)
class Case:
    """One call. `segments_q` None: every row is one sequence."""

    layout: QKVLayout = QKVLayout.BSHD_BSHD_BSHD
    mask: AttnMaskType = AttnMaskType.NO_MASK
    dtype: str = "float32"
    batch: int = 2
    seqlen_q: int = 9
    seqlen_kv: int = 9
    heads: int = 4
    heads_kv: int = 2
    dim_qk: int = 16
    dim_v: int = 16
    segments_q: Segments | None = None
    segments_kv: Segments | None = None
    bias_type: AttnBiasType = AttnBiasType.NO_BIAS
    bias_shape: tuple[int, ...] | None = None
    softmax: AttnSoftmaxType = AttnSoftmaxType.VANILLA_SOFTMAX
    dropout: float = 0.0
    scale: float = 0.2
    seed: int = 0

    @property
    def is_self(self) -> bool:
        return self.layout.is_qkvpacked()


@dataclass(frozen=True)
class Tensors:
    """Logical tensors [b, s, h, d] in the case's dtype, on the CPU."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    d_o: torch.Tensor
    bias: torch.Tensor | None
    sink: torch.Tensor | None


def rows_of(case: Case) -> tuple[Segments, Segments]:
    whole_q, whole_kv = (((0, s),) for s in (case.seqlen_q, case.seqlen_kv))
    return case.segments_q or (whole_q,) * case.batch, case.segments_kv or (whole_kv,) * case.batch


def make(case: Case) -> Tensors:
    print(f"seed {case.seed}")
    generator = torch.Generator().manual_seed(case.seed)

    def random(*shape: int, rows: Segments | None = None) -> torch.Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64).to(DTYPES[case.dtype])
        if rows is None:
            return values
        inside = torch.zeros(shape[:2], dtype=torch.bool)
        for b, row in enumerate(rows):
            for start, length in row:
                inside[b, start : start + length] = True
        return values.masked_fill(~inside[:, :, None, None], torch.nan)

    b, (rows_q, rows_kv) = case.batch, rows_of(case)
    sink = case.softmax is AttnSoftmaxType.LEARNABLE_SOFTMAX
    return Tensors(
        random(b, case.seqlen_q, case.heads, case.dim_qk, rows=rows_q),
        random(b, case.seqlen_kv, case.heads_kv, case.dim_qk, rows=rows_kv),
        random(b, case.seqlen_kv, case.heads_kv, case.dim_v, rows=rows_kv),
        random(b, case.seqlen_q, case.heads, case.dim_v, rows=rows_q),
        random(*case.bias_shape) if case.bias_shape else None,
        random(case.heads).float() if sink else None,
    )


# ---- Between logical tensors and the arrays of a layout ----------------------------------------------------------


def to_jax(tensor: torch.Tensor) -> jax.Array:
    if tensor.dtype is torch.bfloat16:
        return jnp.asarray(tensor.float().numpy(), jnp.bfloat16)
    return jnp.asarray(tensor.numpy())


def to_torch(array: jax.Array) -> torch.Tensor:
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(np.array(array.astype(jnp.float32))).bfloat16()
    return torch.from_numpy(np.array(array))


def _order(layout: QKVLayout) -> list[int]:
    return ["bshd".index(letter) for letter in layout.dims]


def into_layout(layout: QKVLayout, *tensors: torch.Tensor) -> tuple[jax.Array, ...]:
    """q, k, v as the arrays of `layout`; one tensor alone in the order of its dimensions."""
    arrays = [to_jax(tensor).transpose(_order(layout)) for tensor in tensors]
    if len(arrays) == 1 or layout.is_separate():
        return tuple(arrays)
    packed = 3 if layout.is_qkvpacked() else 2
    return (*arrays[:-packed], jnp.stack(arrays[-packed:], layout.packed_dim))


def from_layout(layout: QKVLayout, arrays: tuple[jax.Array, ...]) -> list[torch.Tensor]:
    back = np.argsort(_order(layout)).tolist()
    if not layout.is_separate() and (len(arrays) > 1 or layout.is_qkvpacked()):
        *others, last = arrays
        count = last.shape[layout.packed_dim]
        arrays = (*others, *(jnp.take(last, i, layout.packed_dim) for i in range(count)))
    return [to_torch(array.transpose(back)) for array in arrays]


def seqlens_of(rows: Segments) -> jax.Array:
    return jnp.array([[length for _, length in row] for row in rows], jnp.int32)


def descriptor_of(case: Case, kind: str) -> SequenceDescriptor | None:
    """kind: none, seqlens, offsets or ids."""
    rows = rows_of(case)
    if kind == "none":
        return None
    if kind == "seqlens":
        assert all(start == 0 and len(row) == 1 for side in rows for row in side for start, _ in row)
        return SequenceDescriptor.from_seqlens(tuple(seqlens_of(side)[:, 0] for side in rows))
    count = max(len(row) for side in rows for row in side)
    if kind == "offsets":
        padded = [[(*row, *((-1, -1),) * (count - len(row))) for row in side] for side in rows]
        offsets = [jnp.array([[*(start for start, _ in row), -1] for row in side], jnp.int32) for side in padded]
        return SequenceDescriptor.from_seqlens_and_offsets(tuple(seqlens_of(side) for side in padded), tuple(offsets))
    ids, positions = zip(
        *(_ids(side, s) for side, s in zip(rows, (case.seqlen_q, case.seqlen_kv), strict=True)), strict=True
    )
    return SequenceDescriptor.from_segment_ids_and_pos(tuple(ids), tuple(positions))


def _ids(rows: Segments, seqlen: int) -> tuple[jax.Array, jax.Array]:
    ids, positions = (np.zeros((len(rows), seqlen), np.int32) for _ in range(2))
    for b, row in enumerate(rows):
        for segment, (start, length) in enumerate(row):
            ids[b, start : start + length] = segment + 1
            positions[b, start : start + length] = np.arange(length)
    return jnp.asarray(ids), jnp.asarray(positions)


# ---- The oracle --------------------------------------------------------------------------------------------------


def _spans(rows: Segments, seqlen: int, count: int) -> list[Span]:
    padded = [(*row, *((0, 0),) * (count - len(row))) for row in rows]
    return [Span(b * seqlen + start, max(length, 0)) for b, row in enumerate(padded) for start, length in row]


def oracle(case: Case, tensors: Tensors, dtype: torch.dtype, **rules: Any) -> dict[str, torch.Tensor]:
    """o, lse, and gradients by the names of the inputs, as [b, s, ...]."""
    names = ("q", "k", "v", "bias", "sink")
    given = {name: value for name in names if (value := getattr(tensors, name)) is not None}
    leaves = {name: value.to(dtype).requires_grad_() for name, value in given.items()}
    count = max(len(row) for side in rows_of(case) for row in side)
    spans_q, spans_kv = (
        _spans(side, s, count) for side, s in zip(rows_of(case), (case.seqlen_q, case.seqlen_kv), strict=True)
    )
    sink = leaves.get("sink")
    if case.softmax is AttnSoftmaxType.OFF_BY_ONE_SOFTMAX:
        sink = torch.zeros(case.heads, dtype=dtype)
    alibi = rules.pop("alibi_slopes", None)
    masked_out = rules.pop("masked_out", None)
    rules = Rules(
        scale=case.scale,
        causal=case.mask.is_causal(),
        bottom_right=rules.pop("bottom_right", case.mask.is_bottom_right()),
        bias_type=case.bias_type.name.lower(),
        dropout=case.dropout,
        seed=7 + (11 << 32),
        **rules,
    )
    o, lse = attention(
        *(leaves[name].flatten(0, 1) for name in "qkv"),
        spans_q,
        spans_kv,
        rules,
        bias=leaves.get("bias"),
        alibi_slopes=alibi,
        sink=sink,
        masked_out=masked_out,
    )
    grads = torch.autograd.grad(o, list(leaves.values()), tensors.d_o.to(dtype).flatten(0, 1))
    shape = (case.batch, case.seqlen_q, case.heads)
    results = {"o": o.detach().view(*shape, case.dim_v), "lse": lse.detach().view(shape)}
    return results | {f"d{name}": grad for name, grad in zip(leaves, grads, strict=True)}


# ---- The comparison ----------------------------------------------------------------------------------------------


def arguments_of(case: Case, descriptor: SequenceDescriptor | None, segments: int = 1) -> dict[str, Any]:
    """Everything of fused_attn but qkv, bias and softmax_offset."""
    return dict(
        sequence_descriptor=descriptor,
        seed=jnp.array([7, 11], jnp.uint32) if case.dropout else None,
        attn_bias_type=case.bias_type,
        attn_mask_type=case.mask,
        qkv_layout=case.layout,
        softmax_type=case.softmax,
        scaling_factor=case.scale,
        dropout_probability=case.dropout,
        is_training=True,
        max_segments_per_seq=segments,
    )


def run(
    case: Case, tensors: Tensors, arguments: dict[str, Any], attend: Callable = fused_attn
) -> dict[str, torch.Tensor]:
    """What `oracle` returns, from attend under jit."""
    qkv = into_layout(case.layout, tensors.q, tensors.k, tensors.v)
    bias = None if tensors.bias is None else to_jax(tensors.bias)
    sink = None if tensors.sink is None else to_jax(tensors.sink)
    (d_o,) = into_layout(case.layout.to_separate(), tensors.d_o)
    arrays = ("sequence_descriptor", "seed")
    dynamic = {name: arguments[name] for name in arrays}
    static = {name: value for name, value in arguments.items() if name not in arrays}

    @jax.jit
    def value_and_grads(inputs: tuple, dynamic: dict, d_o: jax.Array) -> tuple:
        def forward(qkv: tuple, bias: jax.Array | None, sink: jax.Array | None) -> tuple:
            return attend(qkv=qkv, bias=bias, softmax_offset=sink, return_lse=True, **static, **dynamic)

        (o, lse), backward = jax.vjp(forward, *inputs)
        return o, lse, backward((d_o, jnp.zeros_like(lse)))

    o, lse, (d_qkv, d_bias, d_sink) = value_and_grads((qkv, bias, sink), dynamic, d_o)
    separate = case.layout.to_separate()
    results = {"o": from_layout(separate, (o,))[0], "lse": from_layout(separate, (lse[..., None],))[0][..., 0]}
    results |= dict(zip(("dq", "dk", "dv"), from_layout(case.layout, d_qkv), strict=True))
    results |= {} if d_bias is None else {"dbias": to_torch(d_bias)}
    return results | ({} if d_sink is None else {"dsink": to_torch(d_sink)})


def check(
    case: Case, kind: str = "none", rules: dict[str, Any] | None = None, attend: Callable = fused_attn, **extra: Any
) -> None:
    """Compares everything with the oracle. `kind` of the descriptor; `rules` for the oracle; `extra` for attend."""
    case = replace(case, heads_kv=case.heads, dim_v=case.dim_qk, seqlen_kv=case.seqlen_q) if case.is_self else case
    tensors = make(case)
    segments = max(len(row) for side in rows_of(case) for row in side)
    got = run(case, tensors, arguments_of(case, descriptor_of(case, kind), segments) | extra, attend)
    reference = oracle(case, tensors, torch.float64, **(rules or {}))
    eager = oracle(case, tensors, DTYPES[case.dtype], **(rules or {}))
    assert got.keys() == reference.keys()
    for name, value in got.items():
        assert_close(name, value, reference[name], eager[name], DTYPES[case.dtype])
