"""The kernels of sm_90: larger tiles than elsewhere, resident blocks that take work by turns, tensors read by TMA."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portattn.testing.random_config import Case, Side
from portattn.testing.runner import check_case, make_config, make_problem, run_forward

pytestmark = [
    pytest.mark.L1,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0), reason="needs an sm_90 GPU"
    ),
]

HEAD_DIMS = [(64, 64), (128, 128), (192, 128), (192, 192), (256, 256), (96, 96), (40, 72), (104, 88), (200, 136)]
HEAD_DIMS += [(512, 512), (264, 128), (320, 392)]  # in two parts
PACKED = Side("thd", (1, 700, 0, 129, 1500, 64, 37, 256))
DENSE = Side("bshd", (1100, 1100))
SHORT = Side("thd", tuple(length % 301 for length in range(0, 6000, 97)))
BASE = Case(q=PACKED, kv=PACKED, heads_q=4, heads_kv=2, d_qk=128, d_v=128, dtype="bfloat16", mask="padding_causal")


@pytest.mark.parametrize("dims", HEAD_DIMS)
@pytest.mark.parametrize("mask", ["padding", "padding_causal", "padding_causal_bottom_right"])
def test_packed(dims: tuple[int, int], mask: str) -> None:
    check_case(replace(BASE, d_qk=dims[0], d_v=dims[1], mask=mask), "cuda")


@pytest.mark.parametrize("dims", HEAD_DIMS)
@pytest.mark.parametrize("mask", ["no_mask", "causal"])
def test_dense(dims: tuple[int, int], mask: str) -> None:
    check_case(replace(BASE, q=DENSE, kv=DENSE, d_qk=dims[0], d_v=dims[1], mask=mask, dtype="float16"), "cuda")


@pytest.mark.parametrize("changes", [
    {"window": (100, 30), "mask": "padding"},
    {"window": (17, 0)},
    {"chunk_size": 300},
    {"softmax": "learnable"},
    {"softmax": "off-by-one", "d_qk": 64, "d_v": 64},
    {"heads_q": 8, "heads_kv": 1},
    {"scale": 0.3},
])  # fmt: skip
def test_what_masks_and_heads_may_be(changes: dict) -> None:
    check_case(replace(BASE, **changes), "cuda")


def test_keys_of_other_lengths_than_queries() -> None:
    kv = Side("thd", (300, 5, 77, 0, 1, 900, 40, 256))
    check_case(replace(BASE, kv=kv, mask="padding_causal_bottom_right"), "cuda")
    check_case(replace(BASE, kv=kv, mask="padding", d_qk=64, d_v=64), "cuda")


@pytest.mark.parametrize("dims", [(64, 64), (96, 96), (128, 128), (256, 256), (512, 512)])
@pytest.mark.parametrize("mask", ["padding", "padding_causal"])
def test_blocks_that_take_many_tiles(dims: tuple[int, int], mask: str) -> None:
    """Tiles follow each other closely in a block: of one key block or several, the last of any length, or empty."""
    check_case(replace(BASE, q=SHORT, kv=SHORT, d_qk=dims[0], d_v=dims[1], heads_q=12, heads_kv=4, mask=mask), "cuda")


def test_queries_without_keys_between_others() -> None:
    kv = Side("thd", tuple(0 if i % 3 else length for i, length in enumerate(SHORT.lens)))
    for dims, softmax in ((64, "vanilla"), (128, "learnable"), (256, "vanilla"), (512, "learnable")):
        case = replace(BASE, q=SHORT, kv=kv, d_qk=dims, d_v=dims, heads_q=12, heads_kv=4, mask="padding")
        check_case(replace(case, softmax=softmax), "cuda")


@pytest.mark.parametrize("changes", [
    {"q": Side("bshd", (8300,)), "kv": Side("bshd", (8300,)), "mask": "no_mask"},
    {"q": Side("thd", (16500, 30)), "kv": Side("thd", (16500, 30)), "mask": "padding_causal", "window": (3000, 0)},
])  # fmt: skip
def test_kernels_of_long_sequences(changes: dict) -> None:
    check_case(replace(BASE, heads_q=1, heads_kv=1, **changes), "cuda")


@pytest.mark.parametrize("dims", [(64, 64), (128, 128), (256, 256), (512, 512)])
def test_forward_is_repeatable(dims: tuple[int, int]) -> None:
    problem = make_problem(replace(BASE, d_qk=dims[0], d_v=dims[1]), "cuda")
    first = run_forward(problem, "fused_varlen")
    for _ in range(20):
        again = run_forward(problem, "fused_varlen")
        assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("changes, reason", [
    ({"softcap": 30.0}, "softcap is 30 at head dim 512"),
    ({"bias": "alibi"}, "bias_type is alibi at head dim 512"),
    ({"dropout": 0.1}, "dropout is 0.1 at head dim 512"),
    ({"deterministic": True}, "deterministic is 1 at head dim 512"),
    ({"dtype": "float32"}, "head_dim_qk is 512 (allowed: multiples of 8 up to 256)"),
])  # fmt: skip
def test_what_wide_heads_leave_to_the_fallback(changes: dict, reason: str) -> None:
    case = replace(BASE, d_qk=512, d_v=512, **changes)
    config = make_config(make_problem(case, "cuda"))
    assert config.backend() == "unfused"
    assert reason in config.explain()
    check_case(case, "cuda")


@pytest.mark.parametrize("expand", ["batch", "heads", "tokens"])
def test_broadcast_keys(expand: str) -> None:
    """Keys and values with stride 0, as `expand` makes them."""
    from portattn.pytorch import dot_product_attention

    torch.manual_seed(5)
    sizes = {"batch": 3, "tokens": 300, "heads": 4}
    q = torch.randn(3, 300, 4, 128, device="cuda", dtype=torch.bfloat16)
    small = [1 if name == expand else size for name, size in sizes.items()]
    k, v = (torch.randn(*small, 128, device="cuda", dtype=torch.bfloat16).expand(3, 300, 4, 128) for _ in "kv")
    o = dot_product_attention(q, k, v, attn_mask_type="causal")
    expected = dot_product_attention(q, k.contiguous(), v.contiguous(), attn_mask_type="causal")
    assert torch.equal(o, expected)
