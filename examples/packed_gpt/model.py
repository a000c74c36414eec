"""A byte-level GPT: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

The model does not know whether its tokens are packed [t] or padded [b, s]: written [...] below, the leading dimensions
pass through, and the batch supplies the attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from packed_gpt.batches import IGNORE, PackedBatch, PaddedBatch
from packed_gpt.corpus import VOCAB_SIZE


@dataclass(frozen=True)
class ModelConfig:
    num_layers: int
    num_heads: int
    num_heads_kv: int
    head_dim: int

    @property
    def width(self) -> int:
        return self.num_heads * self.head_dim


class GPT(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_dim = config.head_dim
        self.embedding = nn.Embedding(VOCAB_SIZE, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, VOCAB_SIZE, bias=False)
        _init_weights(self)

    def forward(self, batch: PackedBatch | PaddedBatch) -> Tensor:
        """The mean loss over the batch's bytes."""
        rotation = rotary_angles(batch.positions, self.head_dim)
        x = self.embedding(batch.tokens)
        for block in self.blocks:
            x = block(x, rotation, batch.attend)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, -2).float(), batch.targets.flatten(), ignore_index=IGNORE)


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        width, kv_width = config.width, config.num_heads_kv * config.head_dim
        self.head_dim = config.head_dim
        self.norm_attention = nn.RMSNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, kv_width, bias=False)
        self.v = nn.Linear(width, kv_width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_mlp = nn.RMSNorm(width)
        hidden = width * 8 // 3 // 64 * 64
        self.gate_and_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], attend) -> Tensor:
        h = self.norm_attention(x)
        q, k, v = (project(h).unflatten(-1, (-1, self.head_dim)) for project in (self.q, self.k, self.v))
        x = x + self.out(attend(rotate(q, rotation), rotate(k, rotation), v).flatten(-2))
        gate, up = self.gate_and_up(self.norm_mlp(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin [..., 1, d / 2] of position * frequency."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device) / head_dim
    angles = positions[..., None, None] * 10000.0**-exponents
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turns each pair (i, i + d / 2) of x [..., h, d] by its angle."""
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def _init_weights(model: GPT) -> None:
    """Blocks start near the identity: the bytes' own statistics are learned first, and attention improves on them."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    for block in model.blocks:
        nn.init.normal_(block.out.weight, std=0.02)
        nn.init.normal_(block.down.weight, std=0.02)
    nn.init.normal_(model.head.weight, std=0.02)
