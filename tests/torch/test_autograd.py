"""Autograd and what is built on it: gradcheck, torch.compile, checkpointing, autocast, threads, inference."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attention_check import Shape, check, make
from torch.utils.checkpoint import checkpoint

from portattn.pytorch import DotProductAttention, dot_product_attention

PACKED = Shape("thd", lengths_q=(5, 0, 8), lengths_kv=(5, 2, 8), batch=3)


@pytest.mark.parametrize("mask", ["no_mask", "causal"])
@pytest.mark.parametrize("softmax_offset", [False, True])
def test_gradcheck_float64(mask: str, softmax_offset: bool) -> None:
    tensors = make(
        Shape(batch=1, seqlen_q=3, seqlen_kv=4, heads=2, heads_kv=1, dim_qk=3, dim_v=2),
        torch.float64,
        seed=1,
        bias=(1, 2, 3, 4),
    )
    offset = torch.randn(2, requires_grad=True) if softmax_offset else None

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        arguments = dict(bias=bias, bias_type="post_scale_bias", attn_mask_type=mask, softcap=3.0)
        if offset is not None:
            arguments.update(softmax_type="learnable", softmax_offset=offset)
        return dot_product_attention(q, k, v, **arguments)

    assert torch.autograd.gradcheck(attend, (tensors.q, tensors.k, tensors.v, tensors.bias))


@pytest.mark.filterwarnings("ignore:Input #. requires gradient and is not a double")
def test_gradcheck_float32() -> None:
    tensors = make(Shape(batch=1, seqlen_q=3, seqlen_kv=4, heads=2, dim_qk=8, dim_v=8), seed=2)
    inputs = (tensors.q, tensors.k, tensors.v)
    assert torch.autograd.gradcheck(dot_product_attention, inputs, eps=1e-2, atol=2e-3, rtol=2e-2, nondet_tol=1e-6)


def test_second_derivative_is_refused() -> None:
    tensors = make(Shape(), seed=3)
    out = dot_product_attention(tensors.q, tensors.k, tensors.v)
    (grad,) = torch.autograd.grad(out.sin().sum(), tensors.q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_only_what_requires_a_gradient_gets_one() -> None:
    tensors = make(Shape(), seed=4)
    k = tensors.k.detach()
    dot_product_attention(tensors.q, k, tensors.v).sum().backward()
    assert tensors.q.grad is not None
    assert tensors.v.grad is not None
    assert k.grad is None
    with torch.no_grad():
        assert not dot_product_attention(tensors.q, tensors.k, tensors.v).requires_grad
    with torch.inference_mode():
        assert dot_product_attention(tensors.q, tensors.k, tensors.v).is_inference()


def compiled(**options: Any) -> Callable[..., Any]:
    """dot_product_attention compiled anew, whole graph or error."""
    torch._dynamo.reset()
    return torch.compile(dot_product_attention, fullgraph=True, **options)


def test_compile_packed() -> None:
    check(make(PACKED, seed=5), {"causal": True}, compiled(), attn_mask_type="padding_causal")


def test_compile_features() -> None:
    """Everything that adds tensor operations of its own to the graph."""
    attend = compiled(backend="aot_eager")
    biased = make(Shape(), seed=6, bias=(1, 4, 9, 9))
    check(biased, {"bias_type": "post_scale_bias"}, attend, bias_type="post_scale_bias")
    check(make(Shape(), seed=7, softmax_offset=True), None, attend, softmax_type="learnable")
    check(make(Shape(), seed=8), {"window": (3, 1)}, attend, window_size=(3, 1), attn_scale=0.3)
    check(make(Shape(), seed=8), {"window": (2, 4)}, attend, window_size=(2, 4), attn_scale=0.2)
    valid = torch.arange(9) < torch.tensor([[9], [9]])
    check(make(Shape(), seed=9), None, attend, attn_mask_type="padding", attention_mask=~valid[:, None, None])
    tensors = make(Shape(), seed=10)
    attend(tensors.q, tensors.k, tensors.v, bias_type="alibi", dropout_p=0.3).sum().backward()


def test_compile_same_tensor_twice() -> None:
    def self_attention(x: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        arguments = dict(qkv_format="thd", attn_mask_type="padding", cu_seqlens_q=cu_seqlens, cu_seqlens_kv=cu_seqlens)
        return dot_product_attention(x, x, x, **arguments)

    torch._dynamo.reset()
    x = torch.randn(13, 4, 16, requires_grad=True)
    cu_seqlens = torch.tensor([0, 5, 13], dtype=torch.int32)
    results = []
    for function in (self_attention, torch.compile(self_attention, fullgraph=True, backend="aot_eager")):
        out = function(x, cu_seqlens)
        results.append((out, *torch.autograd.grad(out.sin().sum(), x)))
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(graph, eager)


def test_compile_recompiles_little() -> None:
    """Changing token counts and length hints become symbols, not one graph each."""
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    attend = compiled(backend=counter)
    for total in (13, 17, 19, 24, 40):
        tensors = make(Shape("thd", lengths_q=(5, total - 5), lengths_kv=(5, total - 5)), seed=total)
        hints = dict(max_seqlen_q=total, max_seqlen_kv=total)
        check(tensors, {"causal": True}, attend, attn_mask_type="padding_causal", **hints)
    assert counter.frame_count <= 3


def test_compile_module() -> None:
    torch._dynamo.reset()
    module = DotProductAttention(4, 16, num_gqa_groups=2, qkv_format="bshd", softmax_type="learnable")
    graph = torch.compile(module, fullgraph=True, backend="aot_eager")
    tensors = make(Shape(), seed=11)
    leaves = (tensors.q, tensors.k, tensors.v, module.softmax_offset)
    results = []
    for attend in (module, graph):
        out = attend(tensors.q, tensors.k, tensors.v)
        results.append((out, *torch.autograd.grad(out.sin().sum(), leaves)))
    for eager, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, eager)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing(use_reentrant: bool, dropout_p: float) -> None:
    """The recomputed forward drops what the first one dropped."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return dot_product_attention(q, k, v, dropout_p=dropout_p, attn_mask_type="causal")

    results = []
    for recompute in (False, True):
        tensors = make(Shape(), seed=12)
        leaves = tuple(tensors.leaves().values())
        torch.manual_seed(3)
        out = checkpoint(attend, *leaves, use_reentrant=use_reentrant) if recompute else attend(*leaves)
        out.sin().sum().backward()
        results.append((out, *(leaf.grad for leaf in leaves)))
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_autocast() -> None:
    tensors = make(Shape(), seed=13)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = dot_product_attention(tensors.q, tensors.k, tensors.v)
        assert out.dtype == torch.bfloat16
        assert dot_product_attention(tensors.q.double(), tensors.k.double(), tensors.v.double()).dtype == torch.float64
    out.sum().backward()
    assert tensors.q.grad.dtype == torch.float32


def test_deterministic_algorithms_are_honoured() -> None:
    tensors = make(Shape(seqlen_q=70, seqlen_kv=90), seed=14)
    torch.use_deterministic_algorithms(True)
    try:
        grads = []
        for _ in range(3):
            out = dot_product_attention(tensors.q, tensors.k, tensors.v)
            grads.append(torch.autograd.grad(out.sum(), tensors.q)[0])
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


def test_threads() -> None:
    """Configs belong to one thread each: the same and different problems at once, created and used again."""
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for step in range(8):
                shape = Shape(seqlen_q=5 + (seed + step) % 3, seqlen_kv=7)
                check(make(shape, seed=seed), {"causal": True}, attn_mask_type="causal")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_many_different_problems() -> None:
    """More configs than the cache holds."""
    q = torch.randn(1, 1, 1, 8)
    for i in range(1100):
        dot_product_attention(q, q, q, attn_scale=0.5 + i)
