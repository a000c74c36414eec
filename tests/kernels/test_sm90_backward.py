"""The backward of sm_90: consumers half a step apart, dq added a step late, whatever the lengths and the heads are."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from portattn.testing.random_config import Case, Side
from portattn.testing.runner import check_case, make_problem, run_backward, run_forward

DEVICE = "cuda"
pytestmark = [
    pytest.mark.L1,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0), reason="needs an sm_90 GPU"
    ),
]

PACKED = Side("thd", (1, 700, 0, 129, 1500, 64, 37, 256))
BASE = Case(q=PACKED, kv=PACKED, heads_q=4, heads_kv=2, d_qk=128, d_v=128, dtype="bfloat16", mask="padding_causal")


# Of each kernel; and of one, dims that are no whole slabs.
SQUARE = [64, 96, 128, 192, 256, 512]
DIMS = [(dim, dim) for dim in SQUARE] + [(192, 128)]
SMALLER = [(40, 56), (72, 88), (104, 120), (128, 64), (136, 104), (160, 152), (200, 248), (256, 64)]
SMALLER += [(264, 128), (320, 392)]  # in two parts


@pytest.mark.parametrize("dims", DIMS + SMALLER)
def test_what_one_block_sums_is_repeatable(dims: tuple[int, int]) -> None:
    """dk and dv have one order of additions; dq, which many blocks add to, has not."""
    problem = make_problem(replace(BASE, d_qk=dims[0], d_v=dims[1]), DEVICE)
    outputs = run_forward(problem, "fused_varlen")
    first = run_backward(problem, outputs, "fused_varlen")
    for _ in range(10):
        again = run_backward(problem, outputs, "fused_varlen")
        assert all(torch.equal(first[name], again[name]) for name in ("dk", "dv"))


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("mask", ["padding", "padding_causal", "padding_causal_bottom_right"])
def test_very_many_short_sequences(dims: tuple[int, int], mask: str) -> None:
    """Most tiles take one step or none: what a step leaves to the next is left to no one."""
    rng = random.Random(11)
    q = Side("thd", tuple(rng.choice((0, 1, 2, 15, 16, 17, 63, 64, 65)) for _ in range(120)))
    kv = Side("thd", tuple(rng.choice((0, 1, 7, 31, 64, 127, 128, 129)) for _ in range(120)))
    check_case(replace(BASE, q=q, kv=kv, d_qk=dims[0], d_v=dims[1], mask=mask), DEVICE)


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("heads", [(1, 1), (16, 1), (12, 4)])
def test_heads_of_a_group(dims: tuple[int, int], heads: tuple[int, int]) -> None:
    sides = Side("bshd", (383, 383)), Side("bshd", (257, 257))
    case = replace(BASE, q=sides[0], kv=sides[1], d_qk=dims[0], d_v=dims[1], mask="causal")
    check_case(replace(case, heads_q=heads[0], heads_kv=heads[1], dtype="float16"), DEVICE)


@pytest.mark.parametrize("dims", DIMS + SMALLER)
@pytest.mark.parametrize("mask", ["padding", "padding_causal"])
def test_against_float64(dims: tuple[int, int], mask: str) -> None:
    """Many steps a tile, tiles that queries see in part and not at all, and a window that leaves some in the middle."""
    case = replace(BASE, d_qk=dims[0], d_v=dims[1], mask=mask)
    check_case(case, DEVICE)
    check_case(replace(case, dtype="float16", window=(100, 0 if mask == "padding_causal" else 70)), DEVICE)


# Long enough for tiles of 80 queries (tuning/sm90.toml), and no multiples of 80 or 128.
LONG = [
    ("no_mask", Side("bshd", (2061,)), Side("bshd", (301,)), (4, 2)),
    ("no_mask", Side("bhsd", (2100, 2100)), Side("bhsd", (129, 129)), (2, 2)),
    ("padding", Side("sbhd", (2500, 1)), Side("sbhd", (77, 400)), (2, 1)),
    ("padding", Side("thd", (4099, 37)), Side("thd", (128, 700)), (2, 1)),
    ("causal", Side("bshd", (8200,)), Side("bshd", (1000,)), (2, 1)),
    ("padding_causal", Side("thd", (16001, 500)), Side("thd", (300, 1000)), (1, 1)),
    ("causal_bottom_right", Side("bshd", (8200,)), Side("bshd", (300,)), (1, 1)),
    ("causal_bottom_right", Side("bshd", (8200,)), Side("bshd", (9000,)), (1, 1)),
]


@pytest.mark.parametrize("dims", [(128, 128), (112, 104)])
@pytest.mark.parametrize("mask, q, kv, heads", LONG)
def test_long_sequences(mask: str, q: Side, kv: Side, heads: tuple[int, int], dims: tuple[int, int]) -> None:
    case = replace(BASE, q=q, kv=kv, mask=mask, heads_q=heads[0], heads_kv=heads[1], d_qk=dims[0], d_v=dims[1])
    check_case(case, DEVICE)


def test_gradient_of_a_sum() -> None:
    """The cotangent of a sum is one number, expanded."""
    from portattn.pytorch import dot_product_attention

    torch.manual_seed(5)
    q, k, v = (torch.randn(2, 300, 4, 128, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for _ in "qkv")
    o = dot_product_attention(q, k, v, attn_mask_type="causal")
    expected = torch.autograd.grad(o, (k, v), torch.ones_like(o), retain_graph=True)
    assert all(torch.equal(x, y) for x, y in zip(torch.autograd.grad(o.sum(), (k, v)), expected, strict=True))
