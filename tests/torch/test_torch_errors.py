"""What is wrong is said: ValueError for arguments, with what was given and what is allowed."""

from __future__ import annotations

import pytest
import torch

from portattn.pytorch import dot_product_attention, explain

Q = torch.randn(2, 8, 4, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qkv_format": "hdsb"}, "qkv_format='hdsb'.*'bshd'"),
        ({"attn_mask_type": "causl"}, "attn_mask_type='causl'.*'causal'"),
        ({"bias_type": "some"}, "bias_type='some'.*'alibi'"),
        ({"softmax_type": "sink"}, "softmax_type='sink'.*'learnable'"),
        ({"backend": "flash"}, "backend='flash'.*'fused_varlen'"),
        ({"qkv_format": "thd"}, '4 dimensions, but qkv_format "thd" needs 3'),
        ({"attn_scale": torch.tensor(0.5)}, "attn_scale is a tensor"),
        ({"attn_scale": 0.0}, "attn_scale=0"),
        ({"attn_scale": float("nan")}, "."),
        ({"dropout_p": 1.5}, "."),
        ({"chunk_size": -3}, "."),
        ({"softcap": -1.0}, "."),
        ({"attn_mask_type": "padding"}, "cu_seqlens"),
        ({"cu_seqlens_q": torch.zeros(3, dtype=torch.int32)}, "cu_seqlens"),
        ({"attention_mask": torch.zeros(2, 1, 1, 8, dtype=torch.bool)}, "attention_mask.*no_mask"),
        ({"attention_mask": torch.zeros(8, 8), "attn_mask_type": "arbitrary"}, "float32.*torch.bool"),
        ({"attention_mask": torch.zeros(2, 1, 1, 7, dtype=torch.bool), "attn_mask_type": "padding"}, r"\[2, 1, 1, 8\]"),
        ({"attention_mask": torch.zeros(2, 1, 1, 8), "attn_mask_type": "padding"}, "torch.bool"),
        ({"bias": torch.zeros(8, 8)}, "bias"),
        ({"bias": torch.zeros(8, 7), "bias_type": "post_scale_bias"}, "."),
        ({"bias_type": "post_scale_bias"}, "bias"),
        ({"softmax_type": "learnable"}, "softmax_offset"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dot_product_attention(Q, Q, Q, **arguments)


def test_wrong_tensors() -> None:
    with pytest.raises(ValueError, match="dtype"):
        dot_product_attention(Q.int(), Q.int(), Q.int())
    with pytest.raises(ValueError):
        dot_product_attention(Q, Q.half(), Q)
    with pytest.raises(ValueError):
        dot_product_attention(Q, Q[:, :, :3], Q[:, :, :3])
    with pytest.raises(ValueError):
        dot_product_attention(Q, Q[:1], Q[:1])
    cu = torch.tensor([0, 8, 16])
    packed = Q.flatten(0, 1)
    with pytest.raises(ValueError, match="int32"):
        dot_product_attention(packed, packed, packed, qkv_format="thd", cu_seqlens_q=cu, cu_seqlens_kv=cu)
    with pytest.raises(ValueError, match="cu_seqlens_q and cu_seqlens_kv"):
        dot_product_attention(packed, packed, packed, qkv_format="thd")


def test_backend_that_cannot_says_why() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    arguments = dict(attn_mask_type="arbitrary", attention_mask=mask)
    with pytest.raises(ValueError, match="fused_varlen"):
        dot_product_attention(Q, Q, Q, backend="fused_varlen", **arguments)
    with pytest.raises(ValueError, match="arbitrary"):
        dot_product_attention(Q, Q, Q, strict=True, **arguments)


def test_explain() -> None:
    text = explain(Q, Q, Q, attn_mask_type="causal")
    assert "fused_varlen: chosen" in text
    assert "[2, 8, 4, 16]" in text
    mask = torch.zeros(8, 8, dtype=torch.bool)
    text = explain(Q, Q, Q, attn_mask_type="arbitrary", attention_mask=mask)
    assert "fused_varlen: refused" in text
    assert "unfused: chosen" in text
    padding = torch.zeros(2, 1, 1, 8, dtype=torch.bool)
    assert "chosen" in explain(Q, Q, Q, attn_mask_type="padding", attention_mask=padding, return_lse=True)
    with pytest.raises(TypeError, match="causal"):
        explain(Q, Q, Q, causal=True)
