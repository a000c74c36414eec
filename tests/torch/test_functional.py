"""dot_product_attention against the oracle: layouts, masks, features, strides, gradients."""

from __future__ import annotations

import pytest
import torch
from attention_check import Shape, Tensors, check, make

from portattn.pytorch import dot_product_attention
from portattn.testing.reference import Span

FORMATS = ["bshd", "sbhd", "bhsd"]


@pytest.mark.parametrize("backend", ["fused_varlen", "unfused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("qkv_format", FORMATS)
def test_formats_and_dtypes(qkv_format: str, dtype: torch.dtype, backend: str) -> None:
    check(make(Shape(qkv_format, seqlen_q=17, seqlen_kv=23), dtype, seed=1), backend=backend)


@pytest.mark.parametrize("mask", ["padding", "padding_causal", "padding_causal_bottom_right"])
def test_packed(mask: str) -> None:
    shape = Shape("thd", batch=4, lengths_q=(5, 0, 12, 1), lengths_kv=(7, 3, 20, 1))
    rules = {"causal": "causal" in mask, "bottom_right": "bottom_right" in mask}
    check(make(shape, seed=2), rules, attn_mask_type=mask)


def test_packed_hints_change_nothing() -> None:
    tensors = make(Shape("thd", lengths_q=(5, 8), lengths_kv=(5, 8)), seed=3)
    check(tensors, {"causal": True}, attn_mask_type="padding_causal", max_seqlen_q=8, max_seqlen_kv=8)
    hint = torch.tensor(8)
    check(tensors, {"causal": True}, attn_mask_type="padding_causal", max_seqlen_q=hint, max_seqlen_kv=hint)


def test_packed_with_gaps() -> None:
    """Sequences start where the padded offsets say; the rows between them are written zero."""
    padded = torch.tensor([2, 10, 20], dtype=torch.int32)
    tensors = make(Shape("thd", lengths_q=(5, 8), lengths_kv=(5, 8)), seed=4)
    q, k, v = (torch.full((20, t.shape[1], 16), torch.nan) for t in (tensors.q, tensors.k, tensors.v))
    for buffer, packed in ((q, tensors.q), (k, tensors.k), (v, tensors.v)):
        buffer[2:7], buffer[10:18] = packed.detach()[:5], packed.detach()[5:]
    cu = tensors.cu_seqlens
    kwargs = dict(qkv_format="thd", attn_mask_type="padding_causal", **cu)
    out = dot_product_attention(q, k, v, cu_seqlens_q_padded=padded, cu_seqlens_kv_padded=padded, **kwargs)
    expected = dot_product_attention(tensors.q, tensors.k, tensors.v, **kwargs)
    torch.testing.assert_close(torch.cat([out[2:7], out[10:18]]), expected)
    assert torch.cat([out[:2], out[7:10], out[18:]]).eq(0).all()


@pytest.mark.parametrize("qkv_format", FORMATS)
def test_lengths_of_padded_batches(qkv_format: str) -> None:
    shape = Shape(qkv_format, lengths_q=(9, 4), lengths_kv=(9, 4))
    check(make(shape, seed=5), {"causal": True}, attn_mask_type="padding_causal")


@pytest.mark.parametrize(
    "rules",
    [
        {"causal": True},
        {"causal": True, "bottom_right": True},
        {"window": (3, 2)},
        {"causal": True, "window": (4, -1)},
        {"chunk_size": 4},
        {"softcap": 2.0},
    ],
    ids=str,
)
def test_rules(rules: dict) -> None:
    mask = "causal_bottom_right" if "bottom_right" in rules else "causal" if "causal" in rules else "no_mask"
    same_names = {name: rules[name] for name in ("chunk_size", "softcap") if name in rules}
    shape = Shape(seqlen_q=9, seqlen_kv=13)
    arguments = dict(attn_mask_type=mask, window_size=rules.get("window", (-1, -1)), **same_names)
    check(make(shape, seed=6), rules, **arguments)


def test_scale() -> None:
    check(make(Shape(), seed=7), attn_scale=0.1)


@pytest.mark.parametrize("sizes", [(2, 4, 9, 9), (1, 4, 9, 9), (2, 1, 9, 9), (1, 1, 9, 9), (1, 1, 1, 9)], ids=str)
@pytest.mark.parametrize("bias_type", ["pre_scale_bias", "post_scale_bias"])
def test_bias(bias_type: str, sizes: tuple[int, ...]) -> None:
    check(make(Shape(), seed=8, bias=sizes), {"bias_type": bias_type}, bias_type=bias_type)


def test_bias_with_fewer_dimensions_and_without_gradient() -> None:
    tensors = make(Shape(), seed=9, bias=(1, 4, 9, 9))
    tensors.bias = tensors.bias.detach()
    check(tensors, {"bias_type": "post_scale_bias"}, bias_type="post_scale_bias")
    squeezed = dot_product_attention(tensors.q, tensors.k, tensors.v, bias=tensors.bias[0], bias_type="post_scale_bias")
    full = dot_product_attention(tensors.q, tensors.k, tensors.v, bias=tensors.bias, bias_type="post_scale_bias")
    assert torch.equal(squeezed, full)


def test_alibi_slopes() -> None:
    check(make(Shape(), seed=10, alibi_slopes=True), {"bias_type": "alibi"}, bias_type="alibi")


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [(4, [2**-2, 2**-4, 2**-6, 2**-8]), (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]), (1, [2**-8])],
)
def test_default_alibi_slopes(heads: int, slopes: list[float]) -> None:
    tensors = make(Shape(heads=heads, heads_kv=1), seed=11)
    tensors.alibi_slopes = torch.tensor(slopes)
    check(tensors, {"bias_type": "alibi"}, bias_type="alibi")
    arguments = dict(bias_type="alibi", attn_mask_type="causal")
    given = dot_product_attention(tensors.q, tensors.k, tensors.v, alibi_slopes=tensors.alibi_slopes, **arguments)
    assert torch.equal(dot_product_attention(tensors.q, tensors.k, tensors.v, **arguments), given)


def test_sinks() -> None:
    check(make(Shape(), seed=12, softmax_offset=True), softmax_type="learnable")
    tensors = make(Shape(), seed=13)
    off_by_one = dot_product_attention(tensors.q, tensors.k, tensors.v, softmax_type="off-by-one")
    zero = torch.zeros(1, 4, 1, 1)  # TransformerEngine's shape
    learnable = dot_product_attention(tensors.q, tensors.k, tensors.v, softmax_type="learnable", softmax_offset=zero)
    torch.testing.assert_close(off_by_one, learnable)


def test_dropout_follows_the_generator() -> None:
    tensors = make(Shape(), seed=14)
    state = torch.tensor([123, 45], dtype=torch.int64)
    check(tensors, {"dropout": 0.25, "seed": 123, "offset": 45}, dropout_p=0.25, rng_state=state)
    outs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        outs.append(dot_product_attention(tensors.q, tensors.k, tensors.v, dropout_p=0.25))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_arbitrary_mask() -> None:
    tensors = make(Shape(), seed=15)
    mask = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(15)) < 0.4
    check(tensors, attn_mask_type="arbitrary", attention_mask=mask, oracle_spans={"masked_out": mask})
    keys_only = mask[:, :, :1]
    expected = keys_only.expand(2, 1, 9, 9)
    check(tensors, attn_mask_type="arbitrary", attention_mask=keys_only, oracle_spans={"masked_out": expected})


@pytest.mark.parametrize("qkv_format", FORMATS)
@pytest.mark.parametrize("left_padded", [False, True])
def test_padding_mask(qkv_format: str, left_padded: bool) -> None:
    lengths = (9, 4)
    position = torch.arange(9)
    first = torch.tensor([9 - n if left_padded else 0 for n in lengths])[:, None]
    valid = (position >= first) & (position < first + torch.tensor(lengths)[:, None])
    spans = [Span(9 * i + int(first[i]), n) for i, n in enumerate(lengths)]
    check(
        make(Shape(qkv_format), seed=16),
        {"causal": True},
        attn_mask_type="padding_causal",
        attention_mask=~valid[:, None, None],
        oracle_spans={"spans_q": spans, "spans_kv": spans},
    )


def test_padding_masks_of_queries_and_keys() -> None:
    valid_q, valid_kv = torch.arange(9) < torch.tensor([[3], [0]]), torch.arange(13) < torch.tensor([[13], [5]])
    spans_q, spans_kv = [Span(0, 3), Span(9, 0)], [Span(0, 13), Span(13, 5)]
    check(
        make(Shape(seqlen_kv=13), seed=17),
        attn_mask_type="padding",
        attention_mask=(~valid_q[:, None, None], ~valid_kv[:, None, None]),
        oracle_spans={"spans_q": spans_q, "spans_kv": spans_kv},
    )


def test_padding_mask_with_bias() -> None:
    valid = torch.arange(9) < torch.tensor([[9], [5]])
    spans = [Span(0, 9), Span(9, 5)]
    check(
        make(Shape(), seed=18, bias=(1, 4, 9, 9)),
        {"bias_type": "post_scale_bias"},
        bias_type="post_scale_bias",
        attn_mask_type="padding",
        attention_mask=~valid[:, None, None],
        oracle_spans={"spans_q": spans, "spans_kv": spans},
    )


def test_hole_in_a_padding_mask_is_loud() -> None:
    tensors = make(Shape(), seed=19)
    mask = torch.zeros(2, 1, 1, 9, dtype=torch.bool)
    mask[1, ..., 3] = True
    with pytest.raises(RuntimeError, match="has a hole"):
        dot_product_attention(tensors.q, tensors.k, tensors.v, attn_mask_type="padding", attention_mask=mask)


def test_no_visible_key_gives_zero() -> None:
    tensors = make(Shape("thd", lengths_q=(5, 4), lengths_kv=(0, 4)), seed=20)
    check(tensors, attn_mask_type="padding")


@pytest.mark.parametrize("how", ["interleaved", "odd_offset", "odd_stride", "transposed_dim", "expanded"])
def test_strides(how: str) -> None:
    """Views that 16-byte loads cannot read are copied, the others are used in place; both give the same."""
    generator = torch.Generator().manual_seed(21)
    if how == "interleaved":
        views = torch.randn(2, 9, 4, 3, 16, generator=generator).unbind(-2)
    elif how == "odd_offset":
        views = torch.randn(3 * 2 * 9 * 4 * 16 + 1, generator=generator)[1:].view(3, 2, 9, 4, 16).unbind(0)
    elif how == "odd_stride":
        views = torch.randn(3, 2, 9, 4, 17, generator=generator)[..., :16].unbind(0)
    elif how == "transposed_dim":
        views = torch.randn(3, 2, 9, 16, 4, generator=generator).transpose(-1, -2).unbind(0)
    else:
        views = torch.randn(3, 1, 9, 1, 16, generator=generator).expand(3, 2, 9, 4, 16).unbind(0)
    q, k, v = (view.detach().requires_grad_() for view in views)
    check(Tensors(Shape(heads_kv=4), q, k, v), {"causal": True}, attn_mask_type="causal")


def test_expanded_gradient() -> None:
    tensors = make(Shape(), seed=22)
    leaves = list(tensors.leaves().values())
    out = dot_product_attention(tensors.q, tensors.k, tensors.v)
    expanded = torch.autograd.grad(out.sum(), leaves, retain_graph=True)
    dense = torch.autograd.grad(out, leaves, torch.ones_like(out))
    for a, b in zip(expanded, dense, strict=True):
        torch.testing.assert_close(a, b)


def test_empty() -> None:
    q = torch.randn(0, 4, 16, requires_grad=True)
    cu = torch.zeros(3, dtype=torch.int32)
    out = dot_product_attention(q, q, q, qkv_format="thd", cu_seqlens_q=cu, cu_seqlens_kv=cu, attn_mask_type="padding")
    assert out.shape == (0, 4, 16)
    out.sum().backward()
    batch = torch.randn(0, 5, 4, 16)
    assert dot_product_attention(batch, batch, batch).shape == (0, 5, 4, 16)


def test_lse_shapes_and_no_gradient_through_it() -> None:
    for qkv_format in FORMATS:
        tensors = make(Shape(qkv_format, seqlen_q=5), seed=23)
        out, lse = dot_product_attention(tensors.q, tensors.k, tensors.v, qkv_format=qkv_format, return_lse=True)
        assert out.shape == tensors.q.shape
        assert lse.shape == (2, 4, 5)
        assert lse.dtype == torch.float32
        assert not lse.requires_grad


def test_fake_tensors_give_shapes_without_running() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        q, k = torch.empty(2, 5, 4, 32), torch.empty(2, 7, 2, 32)
        out, lse = dot_product_attention(q, k, torch.empty(2, 7, 2, 64), return_lse=True)
    assert out.shape == (2, 5, 4, 64) and lse.shape == (2, 4, 5)
