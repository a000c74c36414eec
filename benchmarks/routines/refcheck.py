"""Checks every timed implementation against float64 on a slice of the problem, before its time counts.

Slice: the first, the longest and the last sequence, and one key/value head with its query heads. Tolerance: at most
twice the error that eager PyTorch makes in the same dtype, plus a floor relative to the largest reference value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .cases import Case

FLOOR = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
EAGER_ERROR_FACTOR = 2.0
REFERENCE_ROWS = 2048  # query rows of the float64 score matrix held at once
GRADIENT_NAMES = ("dq", "dk", "dv")


@dataclass(frozen=True)
class Slice:
    """Tokens [start, end) of one sequence and one key/value head; expected values and allowed errors by tensor name."""

    start: int
    end: int
    kv_head: int
    q_heads: slice
    expected: dict[str, torch.Tensor]
    allowed: dict[str, float]

    def of(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The slice of a [t, h, d] tensor, as [s, heads, d]."""
        heads = slice(self.kv_head, self.kv_head + 1) if name in ("dk", "dv") else self.q_heads
        return tensor[self.start : self.end, heads]


@dataclass(frozen=True)
class Verdict:
    """Worst error of one implementation as a share of what is allowed, and the tensor it was seen in."""

    passed: bool
    worst: float
    tensor: str


def expected_slices(case: Case, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, do: torch.Tensor) -> list[Slice]:
    """Float64 results for tensors [t, h, d], and the tolerance that an eager run in their own dtype gives."""
    slices = []
    kv_head = case.num_heads_kv - 1
    group = case.num_heads_q // case.num_heads_kv
    q_heads = slice(kv_head * group, (kv_head + 1) * group)
    for start, end in _checked_sequences(case):
        inputs = (q[start:end, q_heads], k[start:end, kv_head], v[start:end, kv_head], do[start:end, q_heads])
        expected = eager_attention(*inputs, case.causal, torch.float64, REFERENCE_ROWS)
        eager = eager_attention(*inputs, case.causal, q.dtype, end - start)
        allowed = {
            name: EAGER_ERROR_FACTOR * max_error(eager[name], expected[name])
            + FLOOR[q.dtype] * expected[name].abs().max().item()
            for name in expected
        }
        slices.append(Slice(start, end, kv_head, q_heads, expected, allowed))
    return slices


def verdict(results: dict[str, torch.Tensor], slices: list[Slice]) -> Verdict:
    """Compares named [t, h, d] results with the reference; anything not finite, anywhere, fails."""
    worst, tensor = 0.0, "o"
    for name, result in results.items():
        if not torch.isfinite(result).all():
            return Verdict(False, float("inf"), name)
        for part in slices:
            share = max_error(part.of(name, result), part.expected[name]) / part.allowed[name]
            if share > worst:
                worst, tensor = share, name
    return Verdict(worst <= 1.0, worst, tensor)


def max_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return (result.double() - expected).abs().max().item()


def eager_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    do: torch.Tensor,
    causal: bool,
    dtype: torch.dtype,
    rows_at_once: int,
) -> dict[str, torch.Tensor]:
    """Softmax attention of q [s, g, d] on one head k [s, d], v [s, d_v] by plain PyTorch in `dtype`; its gradients."""
    seqlen, group, head_dim = q.shape
    q, k, v = (x.detach().to(dtype).requires_grad_() for x in (q, k, v))
    keys = torch.arange(seqlen, device=q.device)
    output = torch.empty(seqlen, group, v.shape[-1], dtype=dtype, device=q.device)
    for head in range(group):
        for begin in range(0, seqlen, rows_at_once):
            rows = slice(begin, min(begin + rows_at_once, seqlen))
            scores = (q[rows, head] @ k.T) * head_dim**-0.5
            if causal:
                scores = scores.masked_fill(keys[None, :] > keys[rows, None], float("-inf"))
            o = scores.softmax(-1) @ v
            o.backward(do[rows, head].to(dtype))
            output[rows, head] = o.detach()
    gradients = zip(GRADIENT_NAMES, (q.grad, k.grad[:, None], v.grad[:, None]), strict=True)
    return {"o": output, **dict(gradients)}


def _checked_sequences(case: Case) -> Iterator[tuple[int, int]]:
    offsets = case.offsets
    longest = case.seqlens.index(case.max_seqlen)
    for index in sorted({0, longest, len(case.seqlens) - 1}):
        yield offsets[index], offsets[index + 1]
