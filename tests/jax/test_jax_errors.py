"""What is refused, when, and with which words: before anything runs, as a ValueError that says what to do."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax_check import Case, arguments_of

from portattn_jax import (
    AttnBiasType,
    AttnMaskType,
    AttnSoftmaxType,
    CPStrategy,
    QKVLayout,
    SequenceDescriptor,
    canonicalize_attn_mask_type,
    fused_attn,
    fused_attn_small_seq,
    is_fused_attn_kernel_available,
)

Q, KV = jnp.zeros((2, 9, 4, 16)), jnp.zeros((2, 9, 2, 16))
ONES = jnp.ones((2, 1), jnp.int32)
PADDING = AttnMaskType.PADDING_MASK


def attend(qkv: tuple[jax.Array, ...] = (Q, KV, KV), **changes: Any) -> jax.Array:
    return fused_attn(qkv, **({"bias": None} | arguments_of(Case(), None) | changes))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (dict(qkv=(Q, KV)), "qkv has 2 arrays; layout BSHD_BSHD_BSHD takes 3: q, k, v"),
        (dict(qkv=(Q, KV[0], KV)), "k has shape [9, 2, 16]; layout BSHD_BSHD_BSHD takes [b, s_kv, h_kv, d_qk]"),
        (dict(qkv=(Q, KV, KV.astype(jnp.bfloat16))), "v is bfloat16, but q is float32"),
        (dict(qkv=(Q, KV, KV[:1])), "v has shape [1, 9, 2, 16]: its b is 1, elsewhere it is 2"),
        (dict(qkv=(Q, KV, KV[:, :8])), "its s_kv is 8, elsewhere it is 9"),
        (dict(attn_mask_type=PADDING), "sequence_descriptor is NoneType"),
        (dict(attn_mask_type=PADDING, sequence_descriptor=jnp.ones((2, 1, 9, 9), bool)), "attention_mask"),
        (dict(bias=jnp.zeros((1, 4, 9, 9))), "attn_bias_type is NO_BIAS with a bias"),
        (dict(attn_bias_type=AttnBiasType.POST_SCALE_BIAS), "POST_SCALE_BIAS without a bias"),
        (dict(alibi_slopes=jnp.ones(4)), "set it to ALIBI"),
        (dict(softmax_type=AttnSoftmaxType.LEARNABLE_SOFTMAX), "LEARNABLE_SOFTMAX without softmax_offset"),
        (dict(attn_mask_type=AttnMaskType.ARBITRARY_MASK), "ARBITRARY_MASK without attention_mask"),
        (dict(dropout_probability=0.5), "dropout in training needs a seed"),
        (dict(dropout_probability=0.5, seed=jnp.zeros(1, jnp.uint32)), "seed has 1 elements"),
        (dict(scaling_factor=0.0), "scaling_factor=0"),
        (dict(context_parallel_axis="cp"), "context_parallel_axis='cp' is not supported"),
        (dict(context_parallel_strategy=CPStrategy.RING), "context_parallel_strategy"),
        (dict(score_mod=lambda s: s), "score_mod"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_while_tracing(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        jax.eval_shape(lambda: attend(**changes))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (dict(qkv=(jnp.zeros((2, 9, 3, 16)), KV, KV)), "num_heads_kv must divide"),
        (dict(window_size=(-2, 0)), "window_left"),
        (dict(softcap=-1.0), "softcap"),
        (dict(dropout_probability=1.5, seed=jnp.zeros(2, jnp.uint32)), "dropout"),
        (dict(backend="cudnn"), "backend='cudnn'"),
        (dict(qkv=(Q[..., :15], KV[..., :15], KV), backend="fused_varlen"), "fused_varlen"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_by_the_c_api_while_compiling(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        jax.jit(lambda: attend(**changes)).lower()


def test_dense_layouts_hold_one_sequence() -> None:
    lengths, offsets = jnp.ones((9, 2), int), jnp.zeros((9, 3), int)
    descriptor = SequenceDescriptor.from_seqlens_and_offsets(lengths, offsets)
    qkv = (Q.transpose(1, 0, 2, 3), *(KV.transpose(1, 0, 2, 3),) * 2)
    layout = dict(qkv_layout=QKVLayout.SBHD_SBHD_SBHD, attn_mask_type=PADDING)
    with pytest.raises(ValueError, match="holds one sequence a row"):
        attend(qkv, sequence_descriptor=descriptor, **layout)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SequenceDescriptor.from_seqlens(jnp.ones((2, 3), int)), "must be an integer array [b]"),
        (lambda: SequenceDescriptor.from_seqlens(jnp.ones(2)), "seqlens is float32[2]"),
        (lambda: SequenceDescriptor.from_segment_ids_and_pos(jnp.ones((2, 9), int)), "segment_pos is missing"),
        (lambda: SequenceDescriptor.from_seqlens_and_offsets(ONES, (ONES, ONES)), "both"),
    ],
    ids=range(4),
)
def test_wrong_descriptors(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        make()


def test_small_seq_refuses_bias_and_dropout() -> None:
    descriptor = SequenceDescriptor.from_seqlens(jnp.ones(2, int), max_segment_seqlen_q=9, max_segment_seqlen_kv=9)
    arguments = arguments_of(Case(mask=PADDING), descriptor) | {"seed": jnp.zeros(2, jnp.uint32)}
    del arguments["softmax_type"]
    with pytest.raises(ValueError, match="small_seq refused: dropout is"):
        jax.jit(lambda: fused_attn_small_seq((Q, KV, KV), None, **(arguments | {"dropout_probability": 0.1}))).lower()


def test_kernel_availability() -> None:
    def available(**changes: Any) -> bool:
        arguments = dict(
            is_training=True, q_dtype=jnp.bfloat16, kv_dtype=jnp.bfloat16, qkv_layout=QKVLayout.BSHD_BS2HD,
            attn_bias_type=AttnBiasType.NO_BIAS, attn_mask_type=PADDING, softmax_type=AttnSoftmaxType.VANILLA_SOFTMAX,
            dropout_probability=0.1, q_num_heads=8, kv_num_heads=2, q_max_seqlen=32, kv_max_seqlen=64,
            head_dim_qk=64, head_dim_v=64, window_size=None,
        )  # fmt: skip
        return is_fused_attn_kernel_available(**(arguments | changes))

    assert available()
    for layout in QKVLayout:
        assert available(qkv_layout=layout, kv_num_heads=8, kv_max_seqlen=32)
    assert available(attn_bias_type=AttnBiasType.POST_SCALE_BIAS, softmax_type=AttnSoftmaxType.LEARNABLE_SOFTMAX)
    assert not available(kv_dtype=jnp.float16)
    assert not available(kv_num_heads=3)
    assert not available(q_dtype=jnp.int8, kv_dtype=jnp.int8)


@pytest.mark.parametrize(
    ("name", "mask"),
    [("causal", "CAUSAL_MASK"), ("causal_padding", "PADDING_CAUSAL_MASK"), ("no_mask", "NO_MASK"),
     ("bottom_right_causal", "CAUSAL_BOTTOM_RIGHT_MASK"), ("arbitrary", "ARBITRARY_MASK")],
)  # fmt: skip
def test_names_of_masks(name: str, mask: str) -> None:
    assert canonicalize_attn_mask_type(name).name == mask
    with pytest.raises(ValueError, match="may be one of 'no'"):
        canonicalize_attn_mask_type("diagonal")
