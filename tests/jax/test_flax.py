"""The Flax module: what it passes on to fused_attn, its parameter, its rng stream."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_check import Case, arguments_of

from portattn_jax import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVLayout, SequenceDescriptor, fused_attn

pytest.importorskip("flax", reason="the module needs flax", exc_type=ImportError)

from portattn_jax.flax import DotProductAttention

SIZES = dict(head_dim=16, num_attention_heads=4, num_gqa_groups=2)


def tokens() -> tuple[jax.Array, ...]:
    return tuple(jax.random.normal(jax.random.key(i), (2, 9, heads, 16)) for i, heads in enumerate((4, 2, 2)))


def expected(qkv: tuple[jax.Array, ...], **changes: Any) -> jax.Array:
    arguments = arguments_of(Case(mask=AttnMaskType.CAUSAL_MASK, scale=0.25), None)
    return fused_attn(qkv, **({"bias": None} | arguments | changes))


def test_defaults() -> None:
    np.testing.assert_array_equal(DotProductAttention(**SIZES).apply({}, *tokens()), expected(tokens()))


def test_features() -> None:
    q, k, v = tokens()
    bias = jax.random.normal(jax.random.key(5), (1, 4, 9, 9))
    module = DotProductAttention(**SIZES, attn_mask_type="padding", scale_factor=0.5, window_size=(3, 2))
    descriptor = SequenceDescriptor.from_seqlens(jnp.array([9, 4]))
    same = dict(sequence_descriptor=descriptor, attn_mask_type=AttnMaskType.PADDING_MASK, scaling_factor=0.5)
    same |= dict(bias=bias, attn_bias_type=AttnBiasType.POST_SCALE_BIAS, window_size=(3, 2))
    np.testing.assert_array_equal(module.apply({}, q, k, v, descriptor, bias), expected((q, k, v), **same))


def test_layouts() -> None:
    q, k, v = tokens()
    transposed = [array.swapaxes(0, 1) for array in (q, k, v)]
    out = DotProductAttention(**SIZES, transpose_batch_sequence=True).apply({}, *transposed)
    np.testing.assert_array_equal(out.swapaxes(0, 1), expected((q, k, v)))
    kv = jnp.stack([k, v], 2)
    out = DotProductAttention(**SIZES, qkv_layout="bshd_bs2hd").apply({}, q, kv)
    np.testing.assert_array_equal(out, expected((q, kv), qkv_layout=QKVLayout.BSHD_BS2HD))


def test_learnable_softmax_is_a_parameter() -> None:
    module = DotProductAttention(**SIZES, softmax_type="learnable")
    parameters = module.init(jax.random.key(0), *tokens())
    assert parameters["params"]["softmax_offset"].shape == (1, 4, 1, 1)
    offset = jnp.arange(4.0)
    loss = lambda offset: expected(  # noqa: E731
        tokens(), softmax_type=AttnSoftmaxType.LEARNABLE_SOFTMAX, softmax_offset=offset
    ).sum()
    grads = jax.grad(lambda p: module.apply(p, *tokens()).sum())(
        {"params": {"softmax_offset": offset.reshape(1, 4, 1, 1)}}
    )
    np.testing.assert_allclose(grads["params"]["softmax_offset"].reshape(-1), jax.grad(loss)(offset), rtol=1e-6)


def test_dropout_follows_its_stream() -> None:
    module = DotProductAttention(**SIZES, attention_dropout=0.5, dropout_rng_name="drops")
    drawn = [module.apply({}, *tokens(), rngs={"drops": jax.random.key(seed)}) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.any(np.asarray(drawn[0] != drawn[2]))
    np.testing.assert_array_equal(module.apply({}, *tokens(), deterministic=True), expected(tokens()))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (dict(qkv_layout="bhds"), "qkv_layout='bhds' is not known"),
        (dict(num_attention_heads=8), "query has 4 heads, but the module was made for 8"),
        (dict(attn_bias_type="bias"), "attn_bias_type='bias' is not known"),
        (dict(softmax_type="sigmoid"), "softmax_type='sigmoid'"),
        (dict(qkv_layout="bshd_bs2hd"), "layout BSHD_BS2HD takes 2 arrays"),
        (dict(context_parallel_strategy="ring"), "context_parallel_strategy"),
    ],
)
def test_errors(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DotProductAttention(**(SIZES | changes)).apply({}, *tokens())
