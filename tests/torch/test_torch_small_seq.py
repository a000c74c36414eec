"""The promise of short segments through the PyTorch frontend: it brings in small_seq, with gradients, under
torch.compile and in the module, and what small_seq refuses is told.
"""

from __future__ import annotations

import pytest
import torch

from portattn.pytorch import DotProductAttention, dot_product_attention, explain
from portattn.testing.compare import FLOORS, magnitude, max_error
from portattn.testing.reference import Span
from portattn.testing.small_seq import cross_attention_oracle

LENGTHS = (3, 16, 1, 0, 7)
PROMISE = {"max_segment_seqlen_q": 1, "max_segment_seqlen_kv": 16}


def packed(device: str, dtype: torch.dtype = torch.float32) -> tuple[list[torch.Tensor], dict, torch.Tensor]:
    """q, k, v that want gradients, the packing's arguments, and a gradient of the output."""
    generator = torch.Generator().manual_seed(7)
    tokens = [torch.randn(n, 4, 64, generator=generator).to(device, dtype) for n in (5, 27, 27, 5)]
    starts = torch.tensor([0, *LENGTHS]).cumsum(0)
    arguments = {
        "qkv_format": "thd",
        "attn_mask_type": "padding",
        "cu_seqlens_q": torch.arange(6, dtype=torch.int32, device=device),
        "cu_seqlens_kv": starts.int().to(device),
    }
    return [t.requires_grad_() for t in tokens[:3]], arguments, tokens[3]


def expected(tokens: list[torch.Tensor], d_o: torch.Tensor) -> list[torch.Tensor]:
    starts = [sum(LENGTHS[:i]) for i in range(5)]
    spans_q = [Span(i, 1) for i in range(5)]
    spans_kv = [Span(start, length) for start, length in zip(starts, LENGTHS, strict=True)]
    results = cross_attention_oracle(*(t.detach() for t in tokens), d_o, spans_q, spans_kv, 64**-0.5)
    return [results[name] for name in ("o", "dq", "dk", "dv")]


def check(out: torch.Tensor, tokens: list[torch.Tensor], d_o: torch.Tensor) -> None:
    results = (out, *torch.autograd.grad(out, tokens, d_o))
    for result, truth in zip(results, expected(tokens, d_o), strict=True):
        assert max_error(result, truth) <= FLOORS[result.dtype] * magnitude(truth)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.L1)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_promise_brings_it_in(dtype: torch.dtype, device: str) -> None:
    tokens, arguments, d_o = packed(device, dtype)
    assert "small_seq: chosen" in explain(*tokens, **arguments, **PROMISE)
    assert "small_seq: not tried" in explain(*tokens, **arguments)
    check(dot_product_attention(*tokens, **arguments, **PROMISE), tokens, d_o)


def test_the_module_passes_its_promise_on(device: str) -> None:
    tokens, arguments, d_o = packed(device)
    module = DotProductAttention(4, 64, qkv_format="thd", attn_mask_type="padding", attention_type="cross", **PROMISE)
    out = module(*tokens, cu_seqlens_q=arguments["cu_seqlens_q"], cu_seqlens_kv=arguments["cu_seqlens_kv"])
    check(out.view(5, 4, 64), tokens, d_o)


def test_compiled_whole(device: str) -> None:
    tokens, arguments, d_o = packed(device)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return dot_product_attention(q, k, v, **arguments, **PROMISE)

    check(attend(*tokens), tokens, d_o)


def test_strict_tells_what_it_refuses(device: str) -> None:
    tokens, arguments, _ = packed(device)
    with pytest.raises(ValueError, match=r"small_seq refused: dropout is 0\.1"):
        dot_product_attention(*tokens, **arguments, **PROMISE, dropout_p=0.1, strict=True)


def test_a_negative_promise_is_refused(device: str) -> None:
    tokens, arguments, _ = packed(device)
    with pytest.raises(ValueError, match="max_segment_seqlen_q is -1"):
        dot_product_attention(*tokens, **arguments, max_segment_seqlen_q=-1)


def test_a_broken_promise_is_computed_right(device: str) -> None:
    tokens, arguments, d_o = packed(device)
    check(dot_product_attention(*tokens, **arguments, **PROMISE | {"max_segment_seqlen_kv": 8}), tokens, d_o)
