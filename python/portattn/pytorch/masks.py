"""Boolean masks and ALiBi slopes as the kernels take them, made on the device: nothing here waits for it."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

# A padding mask [b, s] (True = padding) is read as one run of valid tokens per sequence, which may start anywhere, so
# left and right padding both work. Its values are on the device: a hole in a run is found there, asynchronously.
_HOLES = (
    "attention_mask has a hole: with a padding mask, the valid tokens of a sequence must be one unbroken run. "
    'Use attn_mask_type="arbitrary" for any other mask.'
)
_NOT_RIGHT_PADDED = (
    "attention_mask is not right-padded: with a bias, the valid tokens of a sequence must start at position 0, because "
    'the bias is indexed by position. Move the padding to the right, or use attn_mask_type="arbitrary".'
)


def split_padding_mask(
    mask: torch.Tensor | tuple[torch.Tensor, torch.Tensor], batch: int, seqlen_q: int, seqlen_kv: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The padding masks [b, s_q] and [b, s_kv] of queries and keys, from [b, 1, 1, s] or [b, s], alone or in a pair."""
    if isinstance(mask, torch.Tensor):
        if seqlen_q != seqlen_kv:
            raise ValueError(
                f"one attention_mask for {seqlen_q} queries and {seqlen_kv} keys: give a pair, "
                "(mask of the queries [b, 1, 1, s_q], mask of the keys [b, 1, 1, s_kv])"
            )
        mask = (mask, mask)
    sides = []
    for side, seqlen in zip(mask, (seqlen_q, seqlen_kv), strict=True):
        if side.dtype != torch.bool:
            raise ValueError(f"attention_mask has dtype {side.dtype}, it must be torch.bool with True = masked out")
        if side.numel() != batch * seqlen:
            raise ValueError(
                f"attention_mask has shape {list(side.shape)}, a padding mask must be [{batch}, 1, 1, {seqlen}]"
            )
        sides.append(side.reshape(batch, seqlen))
    return sides[0], sides[1]


def _cumulative(lengths: torch.Tensor) -> torch.Tensor:
    return pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))


def valid_runs(padding_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """cu_seqlens and cu_seqlens_padded, int32 [b + 1], of the runs of valid tokens in the packed view [b * s]."""
    batch, seqlen = padding_mask.shape
    valid = ~padding_mask
    num_runs = (valid & pad(padding_mask[:, :-1], (1, 0), value=True)).sum(1)
    torch._assert_async((num_runs <= 1).all(), _HOLES)
    row = torch.arange(0, (batch + 1) * seqlen, seqlen, dtype=torch.int32, device=padding_mask.device)
    starts = row + pad(valid.to(torch.uint8).argmax(1), (0, 1)).to(torch.int32)
    return _cumulative(valid.sum(1)), starts


def right_padded_lengths(padding_mask: torch.Tensor) -> torch.Tensor:
    """cu_seqlens, int32 [b + 1], of a mask whose valid tokens start at position 0."""
    torch._assert_async((~(padding_mask[:, :-1] & ~padding_mask[:, 1:])).all(), _NOT_RIGHT_PADDED)
    return _cumulative((~padding_mask).sum(1))


def arbitrary_mask(mask: torch.Tensor) -> torch.Tensor:
    """The mask with four dimensions, broadcastable to [b, h, s_q, s_kv], True = masked out."""
    if not isinstance(mask, torch.Tensor) or mask.dtype not in (torch.bool, torch.uint8) or mask.dim() > 4:
        given = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise ValueError(
            f"attention_mask is {given}; an arbitrary mask is one torch.bool tensor broadcastable to "
            '[b, h, s_q, s_kv], True = masked out. A float mask is a bias: bias_type="post_scale_bias".'
        )
    return mask if mask.dim() == 4 else mask[(None,) * (4 - mask.dim())]


def default_alibi_slopes(num_heads: int, device: torch.device) -> torch.Tensor:
    """The usual geometric slopes, float32 [h]: 2^(-8 i / n) for the n = largest power of two within h, then every
    second slope of the sequence for 2 n."""
    power = 1 << (num_heads.bit_length() - 1)
    head = torch.arange(num_heads, dtype=torch.float32, device=device)
    return torch.exp2(torch.where(head < power, -8 / power * (head + 1), -4 / power * (2 * (head - power) + 1)))
