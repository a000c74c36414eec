"""DotProductAttention: TransformerEngine-style call sites, its rules for masks and windows, and refusals by name."""

from __future__ import annotations

import contextlib
import copy
import pickle
import warnings
from collections.abc import Iterator

import pytest
import torch

from portattn.pytorch import DotProductAttention, dot_product_attention
from portattn.pytorch.module import normalize_mask_type, normalize_window_size

B, S, H, D = 2, 8, 4, 16


def qkv(*leading: int, heads_kv: int = H, dim_v: int = D) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((H, D), (heads_kv, D), (heads_kv, dim_v))
    return tuple(torch.randn(*leading, *size, generator=generator) for size in sizes)


def test_defaults_are_sbhd_and_causal_with_merged_heads() -> None:
    q, k, v = qkv(S, B)
    out = DotProductAttention(H, D)(q, k, v)
    assert out.shape == (S, B, H * D)
    expected = dot_product_attention(q, k, v, qkv_format="sbhd", attn_mask_type="causal")
    assert torch.equal(out, expected.flatten(-2))


def test_groups_and_two_head_dims() -> None:
    q, k, v = qkv(B, S, heads_kv=2, dim_v=8)
    module = DotProductAttention(H, (D, 8), num_gqa_groups=2, qkv_format="bshd", attn_mask_type="no_mask")
    assert module(q, k, v).shape == (B, S, H * 8)
    with pytest.raises(ValueError, match=r"made for \[4, 16\], \[2, 16\], \[2, 8\]"):
        module(q, k, k)


def test_tensor_parallel_size_divides_heads() -> None:
    q, k, v = qkv(S, B)
    assert DotProductAttention(2 * H, D, tp_size=2)(q, k, v).shape == (S, B, H * D)
    with pytest.raises(ValueError, match="tensor parallel size 3"):
        DotProductAttention(4, D, tp_size=3)


def test_packed_sequences_as_megatron_calls_it() -> None:
    q, k, v = qkv(B * S)
    cu_seqlens = torch.tensor([0, 3, 16], dtype=torch.int32)
    module = DotProductAttention(H, D, attn_mask_type="padding_causal")
    out = module(
        q,
        k,
        v,
        attention_mask=None,
        qkv_format="thd",
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_kv=cu_seqlens,
        cu_seqlens_q_padded=cu_seqlens,
        cu_seqlens_kv_padded=cu_seqlens,
        max_seqlen_q=13,
        max_seqlen_kv=13,
        attn_mask_type="padding_causal",
        pad_between_seqs=False,
        fast_zero_fill=False,
    )
    assert out.shape == (B * S, H * D)
    first = module(q[:3, None], k[:3, None], v[:3, None], attn_mask_type="causal")
    torch.testing.assert_close(out[:3], first[:, 0])
    with pytest.raises(ValueError, match="padding mask"):
        module(q, k, v, qkv_format="thd", attn_mask_type="causal", cu_seqlens_q=cu_seqlens, cu_seqlens_kv=cu_seqlens)


@pytest.mark.parametrize("interleave_dim", [-3, -2])
def test_packed_layers(interleave_dim: int) -> None:
    q, k, v = qkv(B, S)
    module = DotProductAttention(H, D, qkv_format="bshd")
    expected = module(q, k, v)
    three, two = torch.stack((q, k, v), interleave_dim), torch.stack((k, v), interleave_dim)
    assert torch.equal(module(qkv_layer=three, qkv_interleave_dim=interleave_dim), expected)
    assert torch.equal(module(q, kv_layer=two, qkv_interleave_dim=interleave_dim), expected)
    for arguments in (
        {"query_layer": q, "qkv_layer": three},
        {"kv_layer": two},
        {"query_layer": q, "key_layer": k, "kv_layer": two},
        {"qkv_layer": two},
        {"qkv_layer": three, "qkv_interleave_dim": 1},
        {},
    ):
        with pytest.raises(ValueError):
            module(**{"qkv_interleave_dim": interleave_dim, **arguments})


def test_attention_mask() -> None:
    q, k, v = qkv(S, B)
    mask = torch.zeros(B, 1, 1, S, dtype=torch.bool)
    mask[1, ..., 5:] = True
    out = DotProductAttention(H, D, attn_mask_type="padding")(q, k, v, attention_mask=mask)
    cu_seqlens = torch.tensor([0, 8, 13], dtype=torch.int32)
    lengths = dict(cu_seqlens_q=cu_seqlens, cu_seqlens_kv=cu_seqlens)
    torch.testing.assert_close(out, DotProductAttention(H, D, attn_mask_type="padding")(q, k, v, **lengths))
    causal = DotProductAttention(H, D)
    assert torch.equal(causal(q, k, v, attention_mask=mask), causal(q, k, v))
    blocked = torch.rand(B, 1, S, S, generator=torch.Generator().manual_seed(1)) < 0.3
    arbitrary = causal(q, k, v, attention_mask=blocked, attn_mask_type="arbitrary")
    torch_mask = torch.nn.functional.scaled_dot_product_attention(
        *(x.permute(1, 2, 0, 3) for x in (q, k, v)), attn_mask=~blocked
    )
    torch.testing.assert_close(arbitrary, torch_mask.permute(2, 0, 1, 3).flatten(-2), rtol=1e-4, atol=1e-5)


def test_diagonal_of_a_window_without_causal_mask() -> None:
    """TransformerEngine aligns it bottom right unless told otherwise."""
    q, _, _ = qkv(B, 4)
    _, k, v = qkv(B, S)
    module = DotProductAttention(H, D, qkv_format="bshd", attn_mask_type="no_mask", window_size=(2, 0))
    arguments = dict(window_size=(2, 0))
    bottom_right = dot_product_attention(q, k, v, bottom_right_diagonal=True, **arguments).flatten(-2)
    top_left = dot_product_attention(q, k, v, **arguments).flatten(-2)
    assert not torch.equal(bottom_right, top_left)
    assert torch.equal(module(q, k, v), bottom_right)
    assert torch.equal(module(q, k, v, bottom_right_diagonal=False), top_left)


def test_mask_names() -> None:
    assert normalize_mask_type("padding,causal") == "padding_causal"
    assert normalize_mask_type("causal,padding") == "padding_causal"
    with pytest.raises(ValueError, match="attn_mask_type='diagonal'"):
        normalize_mask_type("diagonal")


@pytest.mark.parametrize(
    ("mask", "given", "result"),
    [
        ("causal", None, (-1, 0)),
        ("causal", (-1, 0), (-1, 0)),
        ("causal", (5, 0), (5, 0)),
        ("padding_causal", (-1, -1), "warns (-1, 0)"),
        ("causal_bottom_right", (5, 3), "warns (5, 0)"),
        ("causal", (-2, 0), "error"),
        ("causal", (-1, 3), "error"),
        ("no_mask", None, (-1, -1)),
        ("padding", (3, 4), (3, 4)),
        ("arbitrary", (-1, 0), "warns (-1, -1)"),
        ("no_mask", (-1, 4), "error"),
        ("no_mask", (4, -1), "error"),
    ],
)
def test_window_rules(mask: str, given: tuple[int, int] | None, result: tuple[int, int] | str) -> None:
    if result == "error":
        with pytest.raises(ValueError, match="window_size"):
            normalize_window_size(mask, given)
    elif isinstance(result, str):
        with pytest.warns(UserWarning, match="window_size"):
            assert f"warns {normalize_window_size(mask, given)}" == result
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert normalize_window_size(mask, given) == result


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"cp_group": object()}, "cp_group"),
        ({"return_max_logit": True}, "return_max_logit"),
    ],
)
def test_constructor_refuses_by_name(arguments: dict, name: str) -> None:
    with pytest.raises(NotImplementedError, match=f"^{name}:"):
        DotProductAttention(H, D, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"inference_params": object()},
        {"fp8_output": True},
        {"bf16_backward": True},
        {"num_splits": 2},
        {"score_mod": max},
        {"score_mod_bprop": max},
        {"score_mod_tensors": {}},
        {"score_mod_bprop_tensors": {}},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_forward_refuses_by_name(arguments: dict) -> None:
    with pytest.raises(NotImplementedError, match=f"^{next(iter(arguments))}:"):
        DotProductAttention(H, D)(*qkv(S, B), **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"qkv_format": "bsdh"},
        {"attn_mask_type": "none"},
        {"softmax_type": "soft"},
        {"attention_type": "both"},
        {"num_gqa_groups": 3},
        {"window_size": (-1, 7)},
    ],
    ids=str,
)
def test_constructor_checks(arguments: dict) -> None:
    with pytest.raises(ValueError):
        DotProductAttention(H, D, **arguments)


def test_bias_and_alibi() -> None:
    q, k, v = qkv(S, B)
    module = DotProductAttention(H, D, attn_mask_type="no_mask")
    bias = torch.randn(1, H, S, S, requires_grad=True)
    out = module(q, k, v, core_attention_bias_type="post_scale_bias", core_attention_bias=bias)
    out.sum().backward()
    assert bias.grad.shape == bias.shape
    slopes = torch.rand(H)
    a = module(q, k, v, core_attention_bias_type="alibi", alibi_slopes=slopes)
    b = dot_product_attention(q, k, v, qkv_format="sbhd", bias_type="alibi", alibi_slopes=slopes)
    assert torch.equal(a, b.flatten(-2))


def test_learnable_softmax_and_checkpoints_of_transformer_engine() -> None:
    module = DotProductAttention(H, D, softmax_type="learnable")
    assert module.softmax_offset.shape == (H,)
    assert DotProductAttention(H, D).softmax_offset is None
    state = {"softmax_offset": torch.ones(H), "_extra_state": torch.zeros(3)}
    module.load_state_dict(state)
    assert module.softmax_offset.eq(1).all()
    assert list(module.state_dict()) == ["softmax_offset"]
    module(*qkv(S, B)).sum().backward()
    assert module.softmax_offset.grad.abs().sum() > 0
    copied = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    assert torch.equal(copied(*qkv(S, B)), module(*qkv(S, B)))


def test_dropout_only_while_training_and_under_the_tracker() -> None:
    forks = []

    class Tracker:
        @contextlib.contextmanager
        def fork(self) -> Iterator[None]:
            forks.append(1)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(77)
                yield

    q, k, v = qkv(S, B)
    module = DotProductAttention(H, D, attention_dropout=0.5, get_rng_state_tracker=Tracker)
    state = torch.get_rng_state()
    a, b = module(q, k, v), module(q, k, v)
    assert torch.equal(a, b)
    assert torch.equal(state, torch.get_rng_state())
    assert len(forks) == 2
    module.eval()
    assert torch.equal(module(q, k, v), DotProductAttention(H, D)(q, k, v))
    assert len(forks) == 2


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_checkpoint_core_attention(dropout: float) -> None:
    module = DotProductAttention(H, D, attention_dropout=dropout)
    grads = []
    for recompute in (False, True):
        q, k, v = (x.requires_grad_() for x in qkv(S, B))
        torch.manual_seed(9)
        module(q, k, v, checkpoint_core_attention=recompute).sin().sum().backward()
        grads.append((q.grad, k.grad, v.grad))
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(recomputed, plain)
