"""Thirteen mistakes that others made in their fallback path for packed and padded attention, one test each, through the
public API. Every test names the mistake and would fail if it were made here.
"""

from __future__ import annotations

import pytest
import torch

from portattn.pytorch import DotProductAttention, dot_product_attention, explain
from portattn.testing import capi
from portattn.testing.compare import assert_close
from portattn.testing.dropout import dropout_factor
from portattn.testing.random_config import random_case
from portattn.testing.reference import Rules, Span, attention
from portattn.testing.runner import make_config, make_problem

SEED, OFFSET = 11, 3


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(device, dtype).requires_grad_()


def offsets(*lengths: int, device: str = "cpu") -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)


def spans(*lengths: int) -> list[Span]:
    return [Span(sum(lengths[:i]), length) for i, length in enumerate(lengths)]


def unfused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **arguments: object) -> torch.Tensor:
    return dot_product_attention(q, k, v, backend="unfused", **arguments)


def check_packed(o: torch.Tensor, q, k, v, lens_q, lens_kv, rules: Rules, dtype: torch.dtype = torch.float32) -> None:
    """The output and the gradients of packed q, k, v against the oracle, by value, per tensor."""
    d_o = torch.randn(o.shape, generator=torch.Generator().manual_seed(99)).to(o)
    got = (o, *torch.autograd.grad(o, (q, k, v), d_o))
    runs = []
    for precision in (torch.float64, dtype):
        leaves = [t.detach().to(precision).requires_grad_() for t in (q, k, v)]
        out, _ = attention(*leaves, spans(*lens_q), spans(*lens_kv), rules)
        runs.append((out, *torch.autograd.grad(out, leaves, d_o.to(precision))))
    for name, actual, truth, eager in zip(("o", "dq", "dk", "dv"), got, *runs, strict=True):
        assert_close(name, actual, truth, eager, dtype)


def packed_call(lens_q, lens_kv, mask: str, heads=(2, 2), rules: Rules | None = None, **arguments: object) -> None:
    """One packed call and its check."""
    q, k, v = (
        randn(sum(n), h, 16, seed=i) for i, (n, h) in enumerate(((lens_q, heads[0]), *[(lens_kv, heads[1])] * 2))
    )
    o = unfused(q, k, v, qkv_format="thd", attn_mask_type=mask, cu_seqlens_q=offsets(*lens_q),
                cu_seqlens_kv=offsets(*lens_kv), **arguments)  # fmt: skip
    rules = rules or Rules(scale=0.25, causal="causal" in mask, bottom_right="bottom_right" in mask)
    check_packed(o, q, k, v, lens_q, lens_kv, rules)


def test_01_query_length_must_not_cut_a_kv_cache() -> None:
    """K was sliced with the length of Q: a decode step attended to the first cached token alone."""
    packed_call((1, 1, 3), (40, 7, 90), "padding_causal_bottom_right")
    packed_call((1, 1, 3), (40, 7, 90), "padding")


def test_02_the_given_scale_must_be_the_used_scale() -> None:
    """A local `scale` and an attribute `softmax_scale` existed side by side and one path took the wrong one."""
    packed_call((20, 5), (20, 5), "padding_causal", rules=Rules(scale=0.7, causal=True), attn_scale=0.7)
    module = DotProductAttention(2, 16, qkv_format="bshd", attn_mask_type="no_mask", softmax_scale=0.7)
    q, k, v = (randn(1, 9, 2, 16, seed=i) for i in range(3))
    torch.testing.assert_close(module(q, k, v), unfused(q, k, v, attn_scale=0.7).flatten(-2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_03_the_fallback_must_not_lag_behind_the_other_backends(seed: int) -> None:
    """It was written against an old base and missed what the other paths had gained since."""
    config = make_config(make_problem(random_case(seed)), backend="unfused")
    assert config.backend() == "unfused", config.explain()


def test_04_dropout_must_use_the_given_probability_and_generator() -> None:
    """The dropout context was skipped and p was that of another place."""
    state = torch.tensor([SEED, OFFSET])
    rules = Rules(scale=0.25, causal=True, dropout=0.3, seed=SEED, offset=OFFSET)
    packed_call((50, 9), (50, 9), "padding_causal", rules=rules, dropout_p=0.3, rng_state=state)
    q, k, v = (randn(1, 40, 2, 16, seed=i) for i in range(3))
    torch.manual_seed(4)
    first = unfused(q, k, v, dropout_p=0.3)
    second = unfused(q, k, v, dropout_p=0.3)
    torch.manual_seed(4)
    assert torch.equal(first, unfused(q, k, v, dropout_p=0.3)) and not torch.equal(first, second)


@pytest.mark.parametrize("layer_number", [1, 7])
def test_05_query_key_layer_scaling_must_leave_the_result_alone(layer_number: int, monkeypatch) -> None:
    """With NVTE_APPLY_QK_LAYER_SCALING=1 the scale was divided by the layer number and never multiplied back."""
    monkeypatch.setenv("NVTE_APPLY_QK_LAYER_SCALING", "1")
    module = DotProductAttention(2, 16, qkv_format="thd", attn_mask_type="padding_causal", layer_number=layer_number)
    lens = (20, 5)
    q, k, v = (randn(25, 2, 16, seed=i) for i in range(3))
    o = module(q, k, v, cu_seqlens_q=offsets(*lens), cu_seqlens_kv=offsets(*lens)).unflatten(-1, (2, 16))
    check_packed(o, q, k, v, lens, lens, Rules(scale=0.25, causal=True))


def test_06_lengths_must_not_be_read_on_the_host() -> None:
    """`.item()` for each sequence: a value that is read breaks the graph, and fullgraph makes that an error."""
    q, k, v = (randn(64, 2, 16, seed=i) for i in range(3))

    @torch.compile(fullgraph=True, backend="eager")
    def packed(lengths: torch.Tensor) -> torch.Tensor:
        return unfused(q, k, v, qkv_format="thd", attn_mask_type="padding", cu_seqlens_q=lengths, cu_seqlens_kv=lengths)

    check_packed(packed(offsets(30, 0, 34)), q, k, v, (30, 0, 34), (30, 0, 34), Rules(scale=0.25))


@pytest.mark.L1
def test_06_lengths_must_not_be_read_on_the_host_of_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    q, k, v = (randn(64, 2, 16, seed=i, device="cuda") for i in range(3))
    lengths = offsets(30, 0, 20, device="cuda")
    arguments = {"qkv_format": "thd", "attn_mask_type": "padding", "cu_seqlens_q": lengths, "cu_seqlens_kv": lengths}
    unfused(q, k, v, **arguments).sum().backward()  # loads the library
    torch.cuda.set_sync_debug_mode("error")
    try:
        unfused(q, k, v, **arguments).backward(q.detach())
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("mask_type", ["padding", "padding_causal", "padding_causal_bottom_right"])
def test_07_left_padding_must_select_the_right_tokens(mask_type: str) -> None:
    """A length counted from the mask was taken as "the first n tokens": left padding selected padding."""
    lens, seqlen = (13, 20, 4), 20
    q, k, v = (randn(3, seqlen, 2, 16, seed=i) for i in range(3))
    padding = torch.arange(seqlen) < seqlen - torch.tensor(lens)[:, None]
    o = unfused(q, k, v, attn_mask_type=mask_type, attention_mask=padding[:, None, None, :])
    assert bool((o[padding] == 0).all())
    packed = [t[~padding] for t in (q, k, v)]
    expected, _ = attention(
        *(t.double() for t in packed), spans(*lens), spans(*lens),
        Rules(scale=0.25, causal="causal" in mask_type, bottom_right="bottom_right" in mask_type),
    )  # fmt: skip
    torch.testing.assert_close(o[~padding].double(), expected, rtol=1e-5, atol=1e-5)


def test_08_keys_must_not_be_repeated_for_their_query_heads() -> None:
    """GQA expanded K and V first. A workspace that held the copies would exceed them."""
    packed_call((30, 9), (30, 9), "padding_causal", heads=(8, 2))
    config = capi.Config(
        dtype=torch.bfloat16, batch_size=4, num_heads_q=64, num_heads_kv=1, head_dim_qk=128, head_dim_v=128,
        max_seqlen_q=8192, max_seqlen_kv=8192, is_training=1, backend="unfused",
    )  # fmt: skip
    expanded_bytes = 4 * 8192 * 64 * 128 * 2
    for direction in (capi.FORWARD, capi.BACKWARD):
        assert config.workspace_bytes(direction) < expanded_bytes / 8


def test_09_dropout_must_not_change_anything_in_eval() -> None:
    """p > 0 disabled the path even in evaluation."""
    modules = [DotProductAttention(2, 16, qkv_format="bshd", attention_dropout=p).eval() for p in (0.0, 0.5)]
    q, k, v = (randn(2, 9, 2, 16, seed=i) for i in range(3))
    without, with_dropout = (module(q, k, v) for module in modules)
    assert torch.equal(without, with_dropout)
    text = explain(q.detach(), k.detach(), v.detach(), dropout_p=0.5, backend="unfused")
    assert "unfused: chosen" in text


def test_10_a_fully_padded_item_must_give_zeros() -> None:
    """Its softmax over nothing was a uniform average or NaN."""
    q, k, v = (randn(3, 20, 2, 16, seed=i) for i in range(3))
    lengths = offsets(7, 0, 20)
    o = unfused(q, k, v, attn_mask_type="padding", cu_seqlens_q=lengths, cu_seqlens_kv=lengths)
    gradients = torch.autograd.grad(o, (q, k, v), torch.ones_like(o))
    for tensor in (o, *gradients):
        assert bool((tensor[1] == 0).all()) and bool((tensor[0, 7:] == 0).all()) and bool(tensor.isfinite().all())


def test_11_a_buffer_may_hold_more_tokens_than_the_offsets_say() -> None:
    """The conversion to a packed output guessed the number of tokens from cu_seqlens."""
    q, k, v = (randn(64, 2, 16, seed=i) for i in range(3))
    lengths = offsets(20, 11)
    o = unfused(q, k, v, qkv_format="thd", attn_mask_type="padding", cu_seqlens_q=lengths, cu_seqlens_kv=lengths)
    gradients = torch.autograd.grad(o, (q, k, v), torch.ones_like(o))
    for tensor in (o, *gradients):
        assert tensor.shape == (64, 2, 16) and bool((tensor[31:] == 0).all())
    check_packed(
        unfused(q, k, v, qkv_format="thd", attn_mask_type="padding", cu_seqlens_q=lengths, cu_seqlens_kv=lengths),
        q, k, v, (20, 11), (20, 11), Rules(scale=0.25),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lens_q", "lens_kv", "heads"),
    [((1, 4), (30, 30), (2, 2)), ((20, 9), (20, 9), (6, 2)), ((0, 20, 7), (9, 0, 7), (2, 2)), ((20,), (20,), (2, 2))],
)
def test_12_gradients_must_be_right_and_not_only_there(lens_q: tuple, lens_kv: tuple, heads: tuple[int, int]) -> None:
    """The test asked whether gradients exist: KV cache, GQA and zero-length sequences went unchecked."""
    packed_call(lens_q, lens_kv, "padding_causal_bottom_right", heads=heads)


def test_13_cross_attention_must_stay_linear_in_memory() -> None:
    """Cross attention and padding_causal_bottom_right still built s_q x s_kv scores."""
    packed_call((9, 30), (50, 3), "padding")
    for mask in ("padding", "padding_causal_bottom_right"):
        sizes = []
        for tokens in (1 << 16, 1 << 20):
            config = capi.Config(
                dtype=torch.bfloat16, q_format="thd", kv_format="thd", batch_size=8, num_heads_q=2, num_heads_kv=2,
                head_dim_qk=64, head_dim_v=64, max_seqlen_q=0, max_seqlen_kv=0, total_tokens_q=tokens,
                total_tokens_kv=2 * tokens, mask_type=mask, is_training=1, backend="unfused",
            )  # fmt: skip
            sizes.append(config.workspace_bytes(capi.FORWARD) + config.workspace_bytes(capi.BACKWARD))
        assert sizes[1] <= 17 * sizes[0] and sizes[1] < (1 << 20) * 2 * 64 * 4 * 4


def test_the_oracle_of_these_tests_sees_dropout() -> None:
    """A replica that dropped nothing would make test_04 empty."""
    assert 0.2 < float((dropout_factor(0.3, SEED, OFFSET, 0, 50, 50) == 0).double().mean()) < 0.4
