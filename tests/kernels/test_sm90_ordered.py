"""The deterministic backward of sm_90: blocks add dq in turns, so that no bit depends on which of them runs when."""

from __future__ import annotations

import os
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

DIMS = [(64, 64), (128, 128), (40, 56), (104, 120), (128, 64)]
PACKED = Side("thd", (1, 700, 0, 129, 1500, 64, 37, 256))
DENSE = Side("bshd", (1100, 1100))
LONG = Side("bshd", (3000,))
BASE = Case(
    q=PACKED, kv=PACKED, heads_q=4, heads_kv=2, d_qk=128, d_v=128, dtype="bfloat16", mask="padding_causal",
    deterministic=True,
)  # fmt: skip

CALL = """
import torch
from portattn.pytorch import dot_product_attention
q = torch.randn(BATCH, LENGTH, 4, DIM, device="cuda", dtype=torch.float16, requires_grad=True)
dot_product_attention(
    q, q, q, attn_mask_type=MASK, window_size=WINDOW, deterministic=DETERMINISTIC, softcap=SOFTCAP
).sum().backward()
"""


def assert_repeatable(case: Case, runs: int) -> None:
    """The same bits beside work on another stream, which takes multiprocessors away at times of its own."""
    problem = make_problem(case, DEVICE)
    outputs = run_forward(problem, "fused_varlen")
    first = run_backward(problem, outputs, "fused_varlen")
    side, x = torch.cuda.Stream(), torch.randn(2048, 2048, device=DEVICE, dtype=torch.bfloat16)
    for run in range(runs):
        with torch.cuda.stream(side):
            for _ in range(run % 4 * 5):
                x @ x
        again = run_backward(problem, outputs, "fused_varlen")
        assert all(torch.equal(first[name], again[name]) for name in first), f"run {run} differs"


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("mask", ["padding", "padding_causal"])
def test_packed_is_repeatable(dims: tuple[int, int], mask: str) -> None:
    assert_repeatable(replace(BASE, d_qk=dims[0], d_v=dims[1], mask=mask), 12)


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("mask", ["no_mask", "causal"])
def test_long_sequences_are_repeatable(dim: int, mask: str) -> None:
    """More tiles of keys in a sequence than multiprocessors take at once, with many heads."""
    assert_repeatable(replace(BASE, q=LONG, kv=LONG, heads_q=16, heads_kv=16, d_qk=dim, d_v=dim, mask=mask), 12)


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("mask", ["padding", "padding_causal", "padding_causal_bottom_right"])
def test_packed(dims: tuple[int, int], mask: str) -> None:
    check_case(replace(BASE, d_qk=dims[0], d_v=dims[1], mask=mask), DEVICE)


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("mask", ["no_mask", "causal", "causal_bottom_right"])
def test_dense(dim: int, mask: str) -> None:
    check_case(replace(BASE, q=DENSE, kv=DENSE, d_qk=dim, d_v=dim, mask=mask, dtype="float16"), DEVICE)


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("changes", [
    {"window": (100, 30), "mask": "padding"},
    {"window": (17, 0)},
    {"window": (300, 0)},
    {"window": (0, 500), "mask": "padding"},
    {"chunk_size": 300},
    {"chunk_size": 128, "window": (200, 0)},
    {"softmax": "learnable"},
    {"heads_q": 8, "heads_kv": 1},
])  # fmt: skip
def test_what_masks_and_heads_may_be(dim: int, changes: dict) -> None:
    check_case(replace(BASE, d_qk=dim, d_v=dim, **changes), DEVICE)


@pytest.mark.parametrize("dim", [64, 128])
def test_keys_of_other_lengths_than_queries(dim: int) -> None:
    kv = Side("thd", (300, 5, 77, 0, 1, 900, 40, 256))
    for mask in ("padding", "padding_causal", "padding_causal_bottom_right"):
        check_case(replace(BASE, kv=kv, d_qk=dim, d_v=dim, mask=mask), DEVICE)
        check_case(replace(BASE, q=kv, d_qk=dim, d_v=dim, mask=mask), DEVICE)


@pytest.mark.parametrize("dim", [64, 128])
def test_queries_without_a_key_that_have_a_sink(dim: int) -> None:
    """Their lse is finite, and no tile of keys comes to them."""
    q, kv = Side("thd", (700, 256, 40)), Side("thd", (100, 0, 30))
    case = replace(BASE, q=q, kv=kv, d_qk=dim, d_v=dim, mask="padding_causal_bottom_right", softmax="learnable")
    check_case(case, DEVICE)


PLAIN = {
    "BATCH": 1,
    "LENGTH": 300,
    "DIM": 128,
    "MASK": "causal",
    "WINDOW": (-1, -1),
    "DETERMINISTIC": False,
    "SOFTCAP": 0.0,
}


@pytest.mark.parametrize(
    ("changes", "kernel"),
    [
        ({"DIM": 64, "DETERMINISTIC": True}, "fmha_bwd_ws_ordered_hd64x64_fp16_sm90"),
        ({"DETERMINISTIC": True}, "fmha_bwd_ws_ordered_hd128x128_fp16_sm90"),
        ({}, "fmha_bwd_ws_hd128x128_fp16_sm90"),
        ({"DETERMINISTIC": True, "SOFTCAP": 30.0}, "fmha_bwd_hd128x128_fp16_sm80"),
        ({"LENGTH": 1024, "MASK": "no_mask"}, "fmha_bwd_ws_long_hd128x128_fp16_sm90"),
        ({"LENGTH": 1024, "MASK": "no_mask", "WINDOW": (100, 100)}, "fmha_bwd_ws_hd128x128_fp16_sm90"),
        ({"LENGTH": 1024, "MASK": "no_mask", "DIM": 104}, "fmha_bwd_ws_hd128x128_fp16_sm90"),
        ({"LENGTH": 256, "BATCH": 400}, "fmha_bwd_ws_ordered_hd128x128_fp16_sm90"),
        ({"LENGTH": 256, "BATCH": 400, "DIM": 64}, "fmha_bwd_ws_whole_hd64x64_fp16_sm90"),
        ({"LENGTH": 1024, "BATCH": 200}, "fmha_bwd_ws_hd128x128_fp16_sm90"),
        ({"LENGTH": 1024}, "fmha_bwd_ws_hd128x128_fp16_sm90"),
        ({"LENGTH": 8192}, "fmha_bwd_ws_long_hd128x128_fp16_sm90"),
    ],
)
def test_which_kernel_a_call_gets(changes: dict[str, object], kernel: str) -> None:
    program = "\n".join(f"{name} = {value!r}" for name, value in (PLAIN | changes).items()) + CALL
    environment = os.environ | {"NVTE_LOG_FUSED_ATTN_CONFIG": "3"}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"backward by fused_varlen ({kernel})" in result.stderr
