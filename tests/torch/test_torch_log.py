"""What the library says on stderr of PyTorch's calls, each in a process of its own: the environment is read once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

FALLBACK = """
import torch
from portattn.pytorch import dot_product_attention
q = torch.randn(2, 8, 4, 16)
for softcap in (7.0, 7.0, 8.0):
    mask = torch.zeros(8, 8, dtype=torch.bool)
    dot_product_attention(q, q, q, attn_mask_type="arbitrary", attention_mask=mask, softcap=softcap)
"""

PROMISES = """
import torch
from portattn.pytorch import dot_product_attention
q, kv = torch.randn(3, 4, 64, device=DEVICE), torch.randn(20, 4, 64, device=DEVICE)
cu_q, cu_kv = (torch.tensor(cu, dtype=torch.int32, device=DEVICE) for cu in ([0, 1, 2, 3], [0, 3, 19, 20]))
def attend(promise):
    dot_product_attention(
        q, kv, kv, qkv_format="thd", attn_mask_type="padding", cu_seqlens_q=cu_q, cu_seqlens_kv=cu_kv,
        max_segment_seqlen_q=1, max_segment_seqlen_kv=promise,
    )
attend(16)
attend(8)
"""

CAPTURE = """
side = torch.cuda.Stream()
with torch.cuda.stream(side):
    attend(16)
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    attend(8)
graph.replay()
"""


def told(program: str, **environment: str) -> list[str]:
    """Lines of stderr that are the library's."""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [line for line in result.stderr.splitlines() if line.startswith("portattn: ")]


def test_a_fallback_is_told_once() -> None:
    (line,) = told(FALLBACK, NVTE_LOG_FUSED_ATTN_CONFIG="1")
    assert line.startswith("portattn: unfused chosen as a fallback: fused_varlen refused: mask_type is arbitrary")
    assert not told(FALLBACK, NVTE_LOG_FUSED_ATTN_CONFIG="0")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.L1)])
def test_debug_mode_tells_of_a_broken_promise(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    program = f"DEVICE = {device!r}\n{PROMISES}"
    (line,) = told(program, PORTATTN_DEBUG="1")
    assert "segment 1 has cu_seqlens_kv length 16, but max_segment_seqlen_kv promises up to 8" in line
    assert not told(program, PORTATTN_DEBUG="0")


@pytest.mark.L1
def test_debug_mode_leaves_a_capture_alone() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    assert len(told(f"DEVICE = 'cuda'\n{PROMISES}{CAPTURE}", PORTATTN_DEBUG="1")) == 1
