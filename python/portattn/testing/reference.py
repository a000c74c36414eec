"""The oracle: attention one sequence at a time, in whatever dtype it is given (float64 for the truth), by the formula.

    score = scale * q.k (+ bias, ALiBi) -> softcap -> mask -> sink -> softmax -> dropout;   o = p . v

Gradients come from torch autograd. Tokens are rows [t, h, d]; a sequence is a Span of query rows and one of key rows,
so one function serves every layout. Rows outside every sequence are zero and have no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from portattn.testing.dropout import dropout_factor


@dataclass(frozen=True)
class Span:
    """Rows [start, start + length) of a token buffer."""

    start: int
    length: int


@dataclass(frozen=True)
class Rules:
    """Everything about the attention that is not a tensor of tokens."""

    scale: float
    causal: bool = False
    bottom_right: bool = False
    window: tuple[int, int] = (-1, -1)
    chunk_size: int = 0
    softcap: float = 0.0
    bias_type: str = "no_bias"
    dropout: float = 0.0
    seed: int = 0
    offset: int = 0


def spans_of(cu_seqlens: list[int], starts: list[int], batch: int, total: int) -> list[Span]:
    """Sequences of a packed buffer for offsets of any content: none overlaps an earlier one or leaves the buffer."""
    spans, taken = [], 0
    for i in range(batch):
        start = min(max(starts[i], 0), total)
        end = min(start + max(cu_seqlens[i + 1] - cu_seqlens[i], 0), total)
        first = max(start, taken)
        spans.append(Span(first, max(end - first, 0)))
        taken = max(taken, end)
    return spans


def diagonal(rules: Rules, len_q: int, len_kv: int) -> torch.Tensor:
    """[len_q, 1]: the key position that each query is aligned with."""
    return torch.arange(len_q)[:, None] + (len_kv - len_q if rules.bottom_right else 0)


def visible_keys(rules: Rules, len_q: int, len_kv: int) -> torch.Tensor:
    """[len_q, len_kv] bool: key j is seen by query i."""
    d, j = diagonal(rules, len_q, len_kv), torch.arange(len_kv)
    left, right = rules.window[0], 0 if rules.causal else rules.window[1]
    seen = torch.ones(len_q, len_kv, dtype=torch.bool)
    if left >= 0:
        seen &= j >= d - left
    if right >= 0:
        seen &= j <= d + right
    if rules.chunk_size > 0:
        seen &= j // rules.chunk_size == d // rules.chunk_size
    return seen


def _pick(tensor: torch.Tensor, index: int) -> torch.Tensor:
    """Entry `index` of a dimension that may be broadcast."""
    return tensor[index if tensor.shape[0] > 1 else 0]


def attention(
    q: torch.Tensor,  # [t_q, h, d_qk]
    k: torch.Tensor,  # [t_kv, h_kv, d_qk]
    v: torch.Tensor,  # [t_kv, h_kv, d_v]
    spans_q: list[Span],
    spans_kv: list[Span],
    rules: Rules,
    bias: torch.Tensor | None = None,  # [1 | b, 1 | h, 1 | s_q, s_kv]
    alibi_slopes: torch.Tensor | None = None,  # [1 | b, h]
    sink: torch.Tensor | None = None,  # [h]
    masked_out: torch.Tensor | None = None,  # [1 | b, 1 | h, s_q, s_kv] bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """o [t_q, h, d_v] and lse [t_q, h]."""
    heads, group = q.shape[1], q.shape[1] // k.shape[1]
    o = q.new_zeros(q.shape[0], heads, v.shape[2])
    lse = q.new_full((q.shape[0], heads), -torch.inf)
    for b, (rows, keys) in enumerate(zip(spans_q, spans_kv, strict=True)):
        at_q, at_kv = slice(rows.start, rows.start + rows.length), slice(keys.start, keys.start + keys.length)
        qb = q[at_q].transpose(0, 1)
        kb = k[at_kv].transpose(0, 1).repeat_interleave(group, 0)
        vb = v[at_kv].transpose(0, 1).repeat_interleave(group, 0)
        score = qb @ kb.transpose(1, 2)
        if rules.bias_type == "pre_scale_bias":
            score = score + _pick(bias, b)[:, : rows.length, : keys.length]
        score = score * rules.scale
        if rules.bias_type == "post_scale_bias":
            score = score + _pick(bias, b)[:, : rows.length, : keys.length]
        if rules.bias_type == "alibi":
            distance = (torch.arange(keys.length) - diagonal(rules, rows.length, keys.length)).abs().to(score)
            score = score - _pick(alibi_slopes, b).to(score)[:, None, None] * distance
        if rules.softcap > 0:
            score = rules.softcap * torch.tanh(score / rules.softcap)
        hidden = ~visible_keys(rules, rows.length, keys.length).to(score.device)
        if masked_out is not None:
            hidden = hidden | _pick(masked_out, b)[:, : rows.length, : keys.length]
        score = score.masked_fill(hidden, -torch.inf)
        top = torch.nn.functional.pad(score.detach(), (0, 1), value=-torch.inf).amax(2)
        if sink is not None:
            top = torch.maximum(top, sink.detach().to(score)[:, None])
        top = top.masked_fill(top == -torch.inf, 0)
        p = torch.exp(score - top[:, :, None])
        total = p.sum(2)
        if sink is not None:
            total = total + torch.exp(sink.to(score)[:, None] - top)
        p = p / total.masked_fill(total == 0, 1)[:, :, None]
        if rules.dropout > 0:
            draws = (rules.dropout, rules.seed, rules.offset)
            factors = [dropout_factor(*draws, b * heads + n, rows.length, keys.length) for n in range(heads)]
            p = p * torch.stack(factors).to(p)
        o[at_q] = (p @ vb).transpose(0, 1)
        lse[at_q] = (top + torch.log(total)).transpose(0, 1)
    return o, lse
