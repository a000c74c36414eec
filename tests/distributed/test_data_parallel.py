"""Data parallel training through `DotProductAttention`: DDP and FSDP give the gradients of one process on all the data.

Every rank packs documents of its own lengths; softmax offsets are learned, so that the module has a parameter to shard.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from portattn.pytorch import DotProductAttention

WORLD = 2
SEED = 20261121
HEADS, HEADS_KV, DIM = 4, 2, 16
LENGTHS = [(5, 1, 18), (9, 0, 7)]  # of each rank's documents


class Block(nn.Module):
    """Packed self-attention between two projections: [t, HEADS * DIM] -> [t, HEADS * DIM]."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(HEADS * DIM, (HEADS + 2 * HEADS_KV) * DIM)
        self.attention = DotProductAttention(
            HEADS,
            DIM,
            num_gqa_groups=HEADS_KV,
            qkv_format="thd",
            attn_mask_type="padding_causal",
            attention_dropout=0.0,
            softmax_type="learnable",
        )
        self.out = nn.Linear(HEADS * DIM, HEADS * DIM)

    def forward(self, x: torch.Tensor, cu_seqlens: torch.Tensor, max_seqlen: int) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (-1, DIM))
        q, k, v = qkv.split([HEADS, HEADS_KV, HEADS_KV], dim=1)
        lengths = {"cu_seqlens_q": cu_seqlens, "cu_seqlens_kv": cu_seqlens}
        return self.out(self.attention(q, k, v, **lengths, max_seqlen_q=max_seqlen, max_seqlen_kv=max_seqlen))


def make_model() -> nn.Module:
    torch.manual_seed(SEED)
    return nn.Sequential(Block(), Block())


def loss_of(model: nn.Module, rank: int) -> torch.Tensor:
    """A loss with O(1) cotangents on the documents of one rank."""
    generator = torch.Generator().manual_seed(SEED + 1 + rank)
    lengths = torch.tensor((0, *LENGTHS[rank]), dtype=torch.int32)
    x, cotangent = torch.randn(2, int(lengths.sum()), HEADS * DIM, generator=generator)
    cu_seqlens = lengths.cumsum(0, dtype=torch.int32)
    for block in model:
        x = block(x, cu_seqlens, int(lengths.max()))
    return (x * cotangent).sum()


def expected_gradients() -> dict[str, torch.Tensor]:
    model = make_model()
    sum(loss_of(model, rank) for rank in range(WORLD)).div(WORLD).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


class _Blocks(nn.Module):
    """The model's blocks behind one forward, which is what DDP wraps."""

    def __init__(self, blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, rank: int) -> torch.Tensor:
        return loss_of(self.blocks, rank)


def run_ddp(rank: int) -> dict[str, torch.Tensor]:
    model = make_model()
    parallel = DistributedDataParallel(_Blocks(model))  # named, because it averages only as long as it lives
    parallel(rank).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def run_fsdp(rank: int) -> dict[str, torch.Tensor]:
    model = make_model()
    mesh = dist.init_device_mesh("cpu", (WORLD,))
    for block in model:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    loss_of(model, rank).backward()
    return {name: parameter.grad.full_tensor() for name, parameter in model.named_parameters()}


def _worker(rank: int, port: int, run: Callable[[int], dict[str, torch.Tensor]]) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    try:
        gradients = run(rank)
        for name, expected in expected_gradients().items():
            torch.testing.assert_close(
                gradients[name], expected, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )
    finally:
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("run", [run_ddp, run_fsdp])
def test_gradients_are_those_of_one_process(run: Callable[[int], dict[str, torch.Tensor]]) -> None:
    print(f"seed {SEED}")
    mp.spawn(_worker, args=(_free_port(), run), nprocs=WORLD)
