"""fused_attn against the oracle: layouts, dtypes, masks, descriptors and every feature, with gradients."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax_check import Case, arguments_of, check, into_layout, make, to_jax

from portattn_jax import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVLayout, SequenceDescriptor, explain, fused_attn

Mask, Layout = AttnMaskType, QKVLayout
PADDING_MASKS = [mask for mask in Mask if mask.is_padding()]
# Two rows of up to three segments with gaps; an empty one, and one with keys but no queries.
PACKED_Q = (((0, 5), (6, 0), (8, 4)), ((1, 7),))
PACKED_KV = (((2, 6), (8, 3), (11, 1)), ((0, 10),))
pytestmark = pytest.mark.usefixtures("device")


def packed(layout: Layout = Layout.THD_THD_THD, **changes: object) -> Case:
    segments = dict(segments_q=PACKED_Q, segments_kv=PACKED_Q if layout.is_qkvpacked() else PACKED_KV)
    return Case(layout, Mask.PADDING_CAUSAL_MASK, seqlen_q=12, seqlen_kv=12, **(segments | changes))


@pytest.mark.parametrize("layout", [layout for layout in Layout if not layout.is_thd()], ids=lambda x: x.name)
def test_dense_layouts(layout: Layout) -> None:
    check(Case(layout, Mask.CAUSAL_MASK, seqlen_kv=13, seed=1))


@pytest.mark.parametrize("layout", [layout for layout in Layout if layout.is_thd()], ids=lambda x: x.name)
def test_packed_layouts(layout: Layout) -> None:
    check(packed(layout, seed=2), "offsets")


@pytest.mark.parametrize("backend", ["fused_varlen", "unfused"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes_and_backends(dtype: str, backend: str) -> None:
    check(Case(dtype=dtype, seqlen_q=17, seqlen_kv=23, dim_qk=32, dim_v=16, seed=3), backend=backend)
    check(packed(dtype=dtype, seed=4), "offsets", backend=backend)


def test_float64() -> None:
    with jax.enable_x64(True):
        check(Case(dtype="float64", seed=5), backend="unfused")


@pytest.mark.parametrize("kind", ["offsets", "ids"])
@pytest.mark.parametrize("mask", PADDING_MASKS, ids=lambda x: x.name)
def test_packed_masks(mask: Mask, kind: str) -> None:
    check(replace(packed(seed=6), mask=mask), kind)


@pytest.mark.parametrize("layout", [Layout.BSHD_BSHD_BSHD, Layout.SBHD_SBHD_SBHD, Layout.BHSD_BHSD_BHSD])
@pytest.mark.parametrize("kind", ["seqlens", "ids"])
def test_padded_batches(kind: str, layout: Layout) -> None:
    lengths = dict(segments_q=(((0, 9),), ((0, 4),)), segments_kv=(((0, 6),), ((0, 9),)))
    check(Case(layout, Mask.PADDING_MASK, seed=7, **lengths), kind)


def test_left_padded_batch() -> None:
    """Segment ids say where a sequence starts, in a dense layout too."""
    left = (((3, 6),), ((0, 9),))
    check(Case(Layout.BSHD_BS2HD, Mask.PADDING_CAUSAL_MASK, segments_q=left, segments_kv=left, seed=8), "ids")


def test_one_array_serves_both_sides() -> None:
    case = packed(segments_kv=PACKED_Q, seed=9)
    lengths, offsets = jnp.array([[5, 0, 4], [7, -1, -1]]), jnp.array([[0, 6, 8, 12], [1, -1, -1, -1]])
    check(case, "none", sequence_descriptor=SequenceDescriptor.from_seqlens_and_offsets(lengths, offsets))


@pytest.mark.parametrize("mask", [Mask.CAUSAL_MASK, Mask.CAUSAL_BOTTOM_RIGHT_MASK, Mask.NO_MASK])
@pytest.mark.parametrize("window", [(3, 2), (4, -1)])
def test_windows(window: tuple[int, int], mask: Mask) -> None:
    check(Case(mask=mask, seqlen_kv=13, seed=10), rules={"window": window}, window_size=window)


def test_bottom_right_window_without_a_mask() -> None:
    rules = {"window": (3, 2), "bottom_right": True}
    check(Case(seqlen_kv=13, seed=11), rules=rules, window_size=(3, 2), bottom_right_diagonal=True)


@pytest.mark.parametrize("extra", [{"softcap": 2.0}, {"chunk_size": 4}], ids=str)
def test_softcap_and_chunks(extra: dict) -> None:
    check(Case(mask=Mask.CAUSAL_MASK, seed=12), rules=extra, **extra)


@pytest.mark.parametrize("shape", [(1, 1, 9, 9), (2, 4, 9, 9), (1, 4, 1, 9), (2, 1, 9, 9)])
@pytest.mark.parametrize("bias_type", [AttnBiasType.PRE_SCALE_BIAS, AttnBiasType.POST_SCALE_BIAS])
def test_bias(bias_type: AttnBiasType, shape: tuple[int, ...]) -> None:
    check(Case(bias_type=bias_type, bias_shape=shape, seed=13))


def test_bias_with_padding() -> None:
    rows = (((0, 9),), ((0, 4),))
    bias = dict(bias_type=AttnBiasType.POST_SCALE_BIAS, bias_shape=(1, 4, 9, 9))
    for kind in ("seqlens", "ids"):
        check(Case(mask=Mask.PADDING_MASK, segments_q=rows, segments_kv=rows, seed=14, **bias), kind)


def test_alibi() -> None:
    case = Case(mask=Mask.CAUSAL_MASK, bias_type=AttnBiasType.ALIBI, seed=15)
    check(case, rules={"alibi_slopes": torch.tensor([[2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]])})
    slopes = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    check(case, rules={"alibi_slopes": slopes}, alibi_slopes=to_jax(slopes))


@pytest.mark.parametrize("softmax", list(AttnSoftmaxType)[1:], ids=lambda x: x.name)
def test_sinks(softmax: AttnSoftmaxType) -> None:
    check(Case(mask=Mask.CAUSAL_MASK, softmax=softmax, seed=16))
    check(packed(softmax=softmax, seed=17), "ids")


def test_arbitrary_mask() -> None:
    hidden = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(18)) < 0.4
    case = Case(mask=Mask.ARBITRARY_MASK, seed=18)
    check(case, rules={"masked_out": hidden}, attention_mask=to_jax(hidden))


def test_dropout() -> None:
    check(Case(mask=Mask.CAUSAL_MASK, dropout=0.3, seed=19))
    check(packed(dropout=0.3, seed=20), "offsets")


def test_seeds() -> None:
    """The words of a seed and a key of jax.random draw alike, other seeds otherwise, and inference draws nothing."""
    case = Case(dropout=0.5, seed=21)
    tensors = make(case)
    qkv = into_layout(case.layout, tensors.q, tensors.k, tensors.v)
    arguments = arguments_of(case, None) | {"bias": None}
    key = jax.random.key(3)
    drawn = fused_attn(qkv, **(arguments | {"seed": key}))
    np.testing.assert_array_equal(drawn, fused_attn(qkv, **(arguments | {"seed": jax.random.key_data(key)})))
    assert np.any(np.asarray(drawn != fused_attn(qkv, **(arguments | {"seed": jax.random.key(4)}))))
    without = fused_attn(qkv, **(arguments | {"dropout_probability": 0.0}))
    np.testing.assert_array_equal(without, fused_attn(qkv, **(arguments | {"is_training": False, "seed": None})))


def test_deterministic() -> None:
    check(Case(mask=Mask.CAUSAL_MASK, seqlen_q=70, seqlen_kv=70, seed=22), deterministic=True)


def test_gradient_of_inference() -> None:
    """is_training is about dropout: what is not trained still has a gradient."""
    check(Case(seed=23), is_training=False)


def test_explain() -> None:
    case = Case()
    arrays = tuple(jax.ShapeDtypeStruct((2, 9, 4, 16), jnp.float32) for _ in range(3))
    assert "fused_varlen: chosen" in explain(arrays, bias=None, **arguments_of(case, None))
    text = explain(arrays, bias=None, **arguments_of(case, None), backend="unfused")
    assert "unfused: chosen" in text
