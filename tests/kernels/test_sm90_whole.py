"""The backward of sm_90 for many short sequences: a block takes all keys of one, and writes dq itself."""

from __future__ import annotations

import os
import random
import subprocess
import sys
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

LONGEST = 256
KERNEL = "fmha_bwd_ws_whole_hd64x64_"


def lengths(count: int, seed: int) -> tuple[int, ...]:
    """Some empty, some of one token, some that fill two tiles of keys."""
    print(f"seed {seed}")
    draw = random.Random(seed)
    return tuple(draw.choice((0, 1, LONGEST, draw.randint(1, LONGEST), draw.randint(1, LONGEST))) for _ in range(count))


PACKED = Side("thd", lengths(400, 1))
BASE = Case(
    q=PACKED, kv=PACKED, heads_q=8, heads_kv=4, d_qk=64, d_v=64, dtype="bfloat16", mask="padding_causal",
    promised=(LONGEST, LONGEST),
)  # fmt: skip


@pytest.mark.parametrize("mask", ["padding", "padding_causal", "padding_causal_bottom_right"])
@pytest.mark.parametrize("dims", [(64, 64), (40, 56)])
def test_packed(dims: tuple[int, int], mask: str) -> None:
    check_case(replace(BASE, d_qk=dims[0], d_v=dims[1], mask=mask), DEVICE)


@pytest.mark.parametrize("mask", ["padding", "padding_causal", "padding_causal_bottom_right"])
@pytest.mark.parametrize("softmax", ["vanilla", "learnable"])
def test_keys_of_other_lengths_than_queries(softmax: str, mask: str) -> None:
    """Queries without a key, also such as have a sink, and keys without a query."""
    check_case(replace(BASE, kv=Side("thd", lengths(400, 2)), softmax=softmax, mask=mask), DEVICE)


@pytest.mark.parametrize("changes", [
    {"dtype": "float16"},
    {"heads_q": 4},
    {"heads_q": 16},
    {"q": Side("bshd", (200,) * 264), "kv": Side("bshd", (256,) * 264), "heads_q": 2, "heads_kv": 1, "mask": "no_mask"},
    {"q": Side("sbhd", (256,) * 264), "kv": Side("sbhd", (256,) * 264), "heads_q": 1, "heads_kv": 1, "mask": "causal"},
    {"q": Side("bshd", lengths(132, 3)), "kv": Side("bshd", lengths(132, 4)), "heads_q": 2, "heads_kv": 1},
    {"q": Side("bshd", (99,) * 132), "kv": Side("bshd", (999,) * 132), "heads_q": 2, "heads_kv": 1, "mask": "no_mask"},
])  # fmt: skip
def test_other_sequences(changes: dict) -> None:
    check_case(replace(BASE, **changes), DEVICE)


def test_longer_than_promised() -> None:
    """A promise chooses the kernel, no more."""
    side = Side("thd", (*lengths(400, 5), 700, 1000))
    check_case(replace(BASE, q=side, kv=side), DEVICE)


@pytest.mark.parametrize("mask", ["padding", "padding_causal"])
def test_repeatable(mask: str) -> None:
    problem = make_problem(replace(BASE, mask=mask), DEVICE)
    outputs = run_forward(problem, "fused_varlen")
    first = run_backward(problem, outputs, "fused_varlen")
    for run in range(8):
        again = run_backward(problem, outputs, "fused_varlen")
        assert all(torch.equal(first[name], again[name]) for name in first), f"run {run} differs"


CALL = """
import torch
from portattn.pytorch import dot_product_attention
offsets = torch.arange(SEQUENCES + 1, dtype=torch.int32, device="cuda") * LENGTH
q = torch.randn(SEQUENCES * LENGTH, HEADS, DIM, device="cuda", dtype=torch.float16, requires_grad=True)
dot_product_attention(
    q, q, q, qkv_format="thd", attn_mask_type=MASK, window_size=WINDOW, deterministic=DETERMINISTIC,
    cu_seqlens_q=offsets, cu_seqlens_kv=offsets, max_seqlen_q=LONGEST, max_seqlen_kv=LONGEST,
).sum().backward()
"""
PLAIN = {
    "SEQUENCES": 300,
    "LENGTH": 200,
    "LONGEST": LONGEST,
    "HEADS": 4,
    "DIM": 64,
    "MASK": "padding_causal",
    "WINDOW": (-1, -1),
    "DETERMINISTIC": False,
}


@pytest.mark.parametrize(
    ("changes", "is_whole"),
    [
        ({}, True),
        ({"MASK": "padding", "DETERMINISTIC": True}, True),
        ({"LENGTH": 500, "LONGEST": 512}, True),
        ({"WINDOW": (50, 0)}, False),
        ({"LONGEST": 4096}, False),
        ({"SEQUENCES": 20}, False),
        ({"LENGTH": 500, "LONGEST": 512, "MASK": "padding"}, False),
    ],
)
def test_which_calls_get_it(changes: dict[str, object], is_whole: bool) -> None:
    program = "\n".join(f"{name} = {value!r}" for name, value in (PLAIN | changes).items()) + CALL
    environment = os.environ | {"NVTE_LOG_FUSED_ATTN_CONFIG": "3"}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (f"backward by fused_varlen ({KERNEL}" in result.stderr) == is_whole, result.stderr
