"""The same documents in two shapes: one after the other without padding, or one a row, padded to the longest.

A batch is all that the model needs to know: tokens, their positions in their own documents, what to predict, and
`attend`, which keeps the documents apart. Everything else in the model works on tokens and never sees the shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from packed_gpt.corpus import START
from portattn.pytorch import dot_product_attention

IGNORE = -100  # the target of a padding token: cross_entropy leaves it out


@dataclass
class PackedBatch:
    """tokens, targets and positions are [t]; document i is rows cu_seqlens[i] to cu_seqlens[i + 1]."""

    tokens: Tensor
    targets: Tensor
    positions: Tensor
    cu_seqlens: Tensor
    max_seqlen: int

    @classmethod
    def of(cls, documents: list[bytes], device: torch.device) -> PackedBatch:
        tokens, targets, lengths = tokenize(documents)
        cu_seqlens = F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).to(device, torch.int32)
        return cls(
            tokens=tokens.to(device),
            targets=targets.to(device),
            positions=positions_in_documents(cu_seqlens, len(tokens)),
            cu_seqlens=cu_seqlens,
            max_seqlen=max(lengths),
        )

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [t, h, d], k and v [t, h_kv, d]: causal attention inside each document, in one call."""
        return dot_product_attention(q, k, v, **self.attention_arguments())

    def attention_arguments(self) -> dict:
        return dict(
            qkv_format="thd",
            attn_mask_type="padding_causal",
            cu_seqlens_q=self.cu_seqlens,
            cu_seqlens_kv=self.cu_seqlens,
            max_seqlen_q=self.max_seqlen,
            max_seqlen_kv=self.max_seqlen,
        )


@dataclass
class PaddedBatch:
    """tokens and targets are [b, s]; document i is the first bytes of row i, the rest of the row is padding."""

    tokens: Tensor
    targets: Tensor
    positions: Tensor

    @classmethod
    def of(cls, documents: list[bytes], device: torch.device) -> PaddedBatch:
        tokens, targets, lengths = tokenize(documents)
        return cls(
            tokens=pad_sequence(tokens.split(lengths), batch_first=True, padding_value=START).to(device),
            targets=pad_sequence(targets.split(lengths), batch_first=True, padding_value=IGNORE).to(device),
            positions=torch.arange(max(lengths), device=device),
        )

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [b, s, h, d], k and v [b, s, h_kv, d]. Padding is on the right, so the causal mask alone hides it."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)


def tokenize(documents: list[bytes]) -> tuple[Tensor, Tensor, list[int]]:
    """Packed tokens [t] and targets [t], and each document's length. A token's target is the byte after it."""
    lengths = [len(document) for document in documents]
    targets = torch.frombuffer(bytearray(b"".join(documents)), dtype=torch.uint8).long()
    tokens = targets.roll(1)
    tokens[torch.tensor([0, *lengths[:-1]]).cumsum(0)] = START
    return tokens, targets, lengths


def positions_in_documents(cu_seqlens: Tensor, num_tokens: int) -> Tensor:
    """[t]: 0, 1, 2 ... from the start of each document. Computed where cu_seqlens lives; nothing waits for it."""
    index = torch.arange(num_tokens, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    document = torch.searchsorted(cu_seqlens, index, right=True) - 1
    return index - cu_seqlens[document]
