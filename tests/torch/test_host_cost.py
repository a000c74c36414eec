"""Host time of one eager call on a GPU, in a process that does little else: other tests slow Python down."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from portattn.pytorch import DotProductAttention, dot_product_attention

pytestmark = [pytest.mark.L3, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


def host_us(call: Callable[[], object], calls: int = 500) -> float:
    """Best time of one call on the host, without waiting for the device."""
    best = float("inf")
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls // 20):
            call()
        best = min(best, (time.perf_counter() - start) / (calls // 20) * 1e6)
    torch.cuda.synchronize()
    return best


def test_host_cost() -> None:
    q, k, v = (torch.randn(2, 128, 4, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    module = DotProductAttention(4, 64, qkv_format="bshd").cuda()
    leaf = q.clone().requires_grad_()
    functional = host_us(lambda: dot_product_attention(q, k, v, attn_mask_type="causal"))
    with_autograd = host_us(lambda: module(leaf, k, v))
    print(f"functional {functional:.1f} us, module with autograd {with_autograd:.1f} us")
    assert functional <= 20
    assert with_autograd <= 40
