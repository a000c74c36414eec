"""fused_attn_small_seq: tens of thousands of segments of a few tokens, and the promise that chooses its backend."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_check import Case, arguments_of, check, descriptor_of, into_layout, make

from portattn_jax import (
    AttnBiasType,
    AttnMaskType,
    QKVLayout,
    SequenceDescriptor,
    explain,
    fused_attn,
    fused_attn_small_seq,
)

pytestmark = pytest.mark.usefixtures("device")


def cross(**changes: Any) -> Case:
    """One query a row, 0 to 5 keys in rows of 6: the unused ones are poisoned. The scale is not 1/sqrt(d)."""
    rows = 65
    sizes = dict(batch=rows, seqlen_q=1, seqlen_kv=6, heads=3, heads_kv=3, dim_qk=24, dim_v=24, scale=0.3, seed=1)
    sizes |= dict(layout=QKVLayout.THD_THD_THD, mask=AttnMaskType.PADDING_MASK)
    segments = dict(segments_q=(((0, 1),),) * rows, segments_kv=tuple(((0, row % 6),) for row in range(rows)))
    return Case(**(sizes | segments | changes))


def small_seq(
    softmax_type: Any, softmax_offset: Any, return_lse: bool, **arguments: Any
) -> tuple[jax.Array, jax.Array]:
    """With the lse of fused_attn, which it does not return."""
    lse = fused_attn(**arguments, softmax_type=softmax_type, return_lse=True)[1]
    return fused_attn_small_seq(**arguments), lse


@pytest.mark.parametrize("kind", ["offsets", "ids"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_cross_attention(dtype: str, kind: str) -> None:
    check(cross(dtype=dtype), kind, attend=small_seq)


def test_grouped_heads() -> None:
    check(cross(heads=6, heads_kv=2), "offsets", attend=small_seq)


def test_seventeen_by_seventeen() -> None:
    sizes = dict(batch=9, seqlen_q=17, seqlen_kv=17, segments_q=None, segments_kv=None)
    check(cross(mask=AttnMaskType.PADDING_CAUSAL_MASK, **sizes), "offsets", attend=small_seq)


@pytest.mark.parametrize(
    ("rows", "seqlen_q", "seqlen_kv", "segments"), [(2048, 2, 4, 2), (2, 4096, 8192, 4096)], ids=["rows", "segments"]
)
def test_packings(rows: int, seqlen_q: int, seqlen_kv: int, segments: int) -> None:
    """Two segments in each of many rows, and thousands in each of two, against the exact backend."""
    print("seed 2")
    rng = np.random.default_rng(2)
    heads, dim = 2, 16
    q, k, v, d_o = (
        jnp.asarray(rng.standard_normal((rows, seqlen, heads, dim)), jnp.float32)
        for seqlen in (seqlen_q, seqlen_kv, seqlen_kv, seqlen_q)
    )
    width = seqlen_kv // segments
    lengths = (
        jnp.ones((rows, segments), jnp.int32),
        jnp.asarray(rng.integers(0, width + 1, (rows, segments)), jnp.int32),
    )
    starts = (np.arange(segments + 1) * (seqlen_q // segments), np.arange(segments + 1) * width)
    offsets = tuple(jnp.tile(jnp.asarray(side, jnp.int32), (rows, 1)) for side in starts)
    descriptor = SequenceDescriptor.from_seqlens_and_offsets(lengths, offsets)
    case = Case(QKVLayout.THD_THD_THD, AttnMaskType.PADDING_MASK, scale=0.3)

    def results(descriptor: SequenceDescriptor, backend: str | None) -> Any:
        arguments = arguments_of(case, descriptor, segments) | {"backend": backend}
        attend = lambda *qkv: fused_attn(qkv, bias=None, **arguments)  # noqa: E731
        out, backward = jax.vjp(attend, q, k, v)
        return out, backward(d_o)

    promise = dataclasses.replace(descriptor, max_segment_seqlen_q=1, max_segment_seqlen_kv=width)
    assert "small_seq: chosen" in explain((q, k, v), bias=None, **arguments_of(case, promise, segments))
    pairs = zip(*(jax.tree.leaves(results(*call)) for call in ((promise, None), (descriptor, "unfused"))), strict=True)
    for got, expected in pairs:
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_longer_segment_than_promised_is_right() -> None:
    case = cross(seqlen_kv=40, segments_kv=tuple(((0, row % 41),) for row in range(65)))
    promise = dataclasses.replace(descriptor_of(case, "offsets"), max_segment_seqlen_q=1, max_segment_seqlen_kv=4)
    tensors = make(case)
    qkv = into_layout(case.layout, tensors.q, tensors.k, tensors.v)
    assert "small_seq: chosen" in explain(qkv, bias=None, **arguments_of(case, promise))
    check(case, "offsets", sequence_descriptor=promise)


def test_bias_goes_elsewhere_and_says_why() -> None:
    case = dataclasses.replace(cross(), bias_type=AttnBiasType.POST_SCALE_BIAS, bias_shape=(1, 3, 1, 6))
    promise = dataclasses.replace(descriptor_of(case, "offsets"), max_segment_seqlen_q=1, max_segment_seqlen_kv=5)
    tensors = make(case)
    qkv = into_layout(case.layout, tensors.q, tensors.k, tensors.v)
    text = explain(qkv, bias=jnp.zeros((1, 3, 1, 6)), **arguments_of(case, promise))
    assert "small_seq: refused: bias_type is post_scale_bias" in text
