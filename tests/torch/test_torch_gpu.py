"""What only a GPU can show: graph capture, streams, no synchronisation."""

from __future__ import annotations

import threading

import pytest
import torch
from attention_check import Shape, check, make

from portattn.pytorch import DotProductAttention, dot_product_attention

pytestmark = [
    pytest.mark.L1,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that this torch can use"),
]


@pytest.mark.parametrize("backend", ["fused_varlen", "unfused"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("qkv_format", ["bshd", "sbhd", "bhsd"])
def test_formats_and_dtypes(qkv_format: str, dtype: torch.dtype, backend: str) -> None:
    shape = Shape(qkv_format, seqlen_q=130, seqlen_kv=170, dim_qk=64, dim_v=64)
    check(make(shape, dtype, seed=1, device="cuda"), {"causal": True}, attn_mask_type="causal", backend=backend)


def test_packed() -> None:
    shape = Shape("thd", batch=4, lengths_q=(5, 0, 130, 64), lengths_kv=(7, 3, 130, 1), dim_qk=64, dim_v=64)
    tensors = make(shape, torch.bfloat16, seed=2, device="cuda")
    check(tensors, {"causal": True, "bottom_right": True}, attn_mask_type="padding_causal_bottom_right")


def test_no_synchronisation() -> None:
    """Forward and backward of everything that makes tensors of its own, with synchronising calls forbidden."""
    x = torch.randn(2, 64, 4, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    packed = x.detach().flatten(0, 1).requires_grad_()
    cu_seqlens = torch.tensor([0, 50, 128], dtype=torch.int32, device="cuda")
    padding = torch.zeros(2, 1, 1, 64, dtype=torch.bool, device="cuda")
    module = DotProductAttention(
        4, 64, qkv_format="bshd", attn_mask_type="padding_causal", attention_dropout=0.1
    ).cuda()
    lengths = dict(qkv_format="thd", attn_mask_type="padding", cu_seqlens_q=cu_seqlens, cu_seqlens_kv=cu_seqlens)

    def step() -> None:
        module(x, x, x, attention_mask=padding).sum().backward()
        dot_product_attention(x, x, x, bias_type="alibi", dropout_p=0.1).sum().backward()
        dot_product_attention(packed, packed, packed, **lengths).sum().backward()

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_graph_replay_with_other_lengths() -> None:
    """One captured forward and backward serves every set of lengths and draws new dropout each time."""
    x = torch.randn(256, 4, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    d_out = torch.randn_like(x)
    cu_seqlens = torch.tensor([0, 100, 256], dtype=torch.int32, device="cuda")
    arguments = dict(
        qkv_format="thd", attn_mask_type="padding_causal", cu_seqlens_q=cu_seqlens, cu_seqlens_kv=cu_seqlens
    )

    def step(**extra: float) -> tuple[torch.Tensor, torch.Tensor]:
        out = dot_product_attention(x, x, x, deterministic=True, **arguments, **extra)
        return out, torch.autograd.grad(out, x, d_out)[0]

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step(), step(dropout_p=0.2)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, grad = step()
        dropped, _ = step(dropout_p=0.2)
    seen = []
    for ends in ([0, 100, 256], [0, 1, 256], [0, 0, 0], [0, 256, 256], [0, 30, 77]):
        cu_seqlens.copy_(torch.tensor(ends, dtype=torch.int32))
        out.fill_(torch.nan), grad.fill_(torch.nan)
        graph.replay()
        seen.append(dropped.clone())
        eager_out, eager_grad = step()
        assert torch.equal(out, eager_out), ends
        assert torch.equal(grad, eager_grad), ends
    cu_seqlens.copy_(torch.tensor([0, 100, 256], dtype=torch.int32))
    graph.replay()
    assert not torch.equal(seen[0], dropped)


def test_side_stream() -> None:
    """The call runs on the current stream: it sees what was queued there before it, and nothing waits."""
    side = torch.cuda.Stream()
    x = torch.zeros(2, 128, 4, 64, device="cuda", dtype=torch.bfloat16)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        x.normal_()
        out = dot_product_attention(x, x, x)
    side.synchronize()
    assert torch.equal(out, dot_product_attention(x, x, x))


def test_two_threads() -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for step in range(20):
                    shape = Shape(seqlen_q=60 + step, seqlen_kv=64, dim_qk=64, dim_v=64)
                    check(make(shape, torch.bfloat16, seed=seed, device="cuda"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_compile_on_the_gpu() -> None:
    torch._dynamo.reset()
    attend = torch.compile(dot_product_attention, fullgraph=True)
    shape = Shape("thd", lengths_q=(5, 123), lengths_kv=(5, 123), dim_qk=64, dim_v=64)
    tensors = make(shape, torch.bfloat16, seed=3, device="cuda")
    check(tensors, {"causal": True}, attend, attn_mask_type="padding_causal")
