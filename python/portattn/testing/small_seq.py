"""Problems of very many short segments: random cases for the runner from a seed, and a float64 oracle that computes all
segments of a packed buffer at once, for thousands of them.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from portattn.testing.random_config import PADDING_MASKS, Case, Side
from portattn.testing.reference import Span

MASKS = ("no_mask", "causal", "causal_bottom_right", *PADDING_MASKS, *PADDING_MASKS)
HEADS = ((1, 1), (2, 2), (3, 3), (5, 5), (7, 7), (16, 16), (4, 1), (6, 2), (8, 1), (9, 3))  # (h, h_kv)
HEAD_DIMS = (8, 16, 24, 32, 40, 64, 72, 80, 96, 128, 128, 136, 160, 192, 248, 256, 512)
LONGEST_Q, LONGEST_KV = (1, 1, 1, 2, 4, 17, 32), (2, 4, 6, 8, 12, 16, 16, 17, 32)


def _lengths(rng: random.Random, segments: int, longest: int, may_vary: bool) -> tuple[int, ...]:
    if not may_vary:
        return (rng.randint(1, longest),) * segments
    return tuple(0 if rng.random() < 0.1 else rng.randint(1, longest) for _ in range(segments))


def _side(rng: random.Random, fmt: str, lens: tuple[int, ...], padding: bool) -> Side:
    if fmt != "thd":
        return Side(fmt, lens, extra=rng.choice((0, 0, 1, 5)) if padding else 0)
    gaps = tuple(rng.choice((0, 0, 1, 3, 14)) for _ in lens) if rng.random() < 0.6 else ()
    return Side("thd", lens, gaps=gaps, lead=rng.choice((0, 0, 4)), tail=rng.choice((0, 0, 3, 150)))


def random_small_case(seed: int) -> Case:
    """A case that small_seq takes, with the lengths of its segments promised."""
    rng = random.Random(seed)
    mask = rng.choice(MASKS)
    padding = mask.startswith("padding")
    fmt = rng.choice(("bshd", "sbhd", "thd", "thd", "thd") if padding else ("bshd", "sbhd", "bhsd"))
    segments, longest_q, longest_kv = rng.randint(1, 12), rng.choice(LONGEST_Q), rng.choice(LONGEST_KV)
    lens_q, lens_kv = _lengths(rng, segments, longest_q, padding), _lengths(rng, segments, longest_kv, padding)
    heads_q, heads_kv = rng.choice(HEADS)
    d_qk = rng.choice(HEAD_DIMS)
    d_v = d_qk if rng.random() < 0.8 else rng.choice(HEAD_DIMS)
    window = (rng.choice((0, 3)), 0 if "causal" in mask else rng.choice((0, 2)))
    return Case(
        seed=seed,
        dtype=rng.choice(("float32", "float16", "float16", "bfloat16", "bfloat16")),
        q=_side(rng, fmt, lens_q, padding),
        kv=_side(rng, fmt, lens_kv, padding),
        heads_q=heads_q,
        heads_kv=heads_kv,
        d_qk=d_qk,
        d_v=d_v,
        layout=rng.choice(("plain", "gapped")),
        odd_strides=rng.random() < 0.25,
        mask=mask,
        window=window if rng.random() < 0.15 else ((-1, 0) if "causal" in mask else (-1, -1)),
        chunk_size=rng.choice((1, 5)) if rng.random() < 0.1 else 0,
        scale=rng.choice((-1.0, 0.1, 0.5, 1.5)) / d_qk**0.5 if rng.random() < 0.5 else 0.0,
        deterministic=rng.random() < 0.3,
        promised=(max(*lens_q, 1), max(*lens_kv, 1)),
    )


def broken_promise(case: Case) -> Case:
    """The same case with segments longer than promised."""
    return replace(case, promised=tuple(max(promised // 3, 1) for promised in case.promised))


def _gather(tensor: torch.Tensor, spans: list[Span], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of all spans [n, longest, ...], with their first row where a span is shorter, and which of them are real."""
    starts = torch.tensor([span.start for span in spans], device=tensor.device)
    lengths = torch.tensor([span.length for span in spans], device=tensor.device)
    offsets = torch.arange(longest, device=tensor.device)
    real = offsets < lengths[:, None]
    return tensor[(starts[:, None] + offsets * real).clamp(max=tensor.shape[0] - 1)], real


def cross_attention_oracle(
    q: torch.Tensor,  # [t_q, h, d]
    k: torch.Tensor,  # [t_kv, h, d]
    v: torch.Tensor,
    d_o: torch.Tensor,
    spans_q: list[Span],
    spans_kv: list[Span],
    scale: float,
) -> dict[str, torch.Tensor]:
    """o, dq, dk, dv of unmasked attention in float64, as token rows with zeros outside every sequence."""
    longest_q, longest_kv = (max(max(span.length for span in spans), 1) for spans in (spans_q, spans_kv))
    parts = {"q": (q, spans_q, longest_q), "k": (k, spans_kv, longest_kv), "v": (v, spans_kv, longest_kv)}
    leaves, real = {}, {}
    for name, (tensor, spans, longest) in parts.items():
        rows, real[name] = _gather(tensor, spans, longest)
        leaves[name] = rows.double().masked_fill(~real[name][..., None, None], 0).requires_grad_()
    score = torch.einsum("nihd,njhd->nhij", leaves["q"], leaves["k"]) * scale
    hidden = ~real["k"][:, None, None, :]
    p = torch.softmax(score.masked_fill(hidden, -1e30), -1).masked_fill(hidden, 0)
    o = torch.einsum("nhij,njhd->nihd", p, leaves["v"])
    gradient = _gather(d_o, spans_q, longest_q)[0].double().masked_fill(~real["q"][..., None, None], 0)
    results = dict(zip(("dq", "dk", "dv"), torch.autograd.grad(o, list(leaves.values()), gradient), strict=True))
    results["o"] = o.detach()
    of = {"o": ("q", q), "dq": ("q", q), "dk": ("k", k), "dv": ("v", v)}
    return {name: _scatter(results[name], real[part], parts[part][1], like) for name, (part, like) in of.items()}


def _scatter(rows: torch.Tensor, real: torch.Tensor, spans: list[Span], like: torch.Tensor) -> torch.Tensor:
    """The inverse of _gather."""
    starts = torch.tensor([span.start for span in spans], device=rows.device)
    out = rows.new_zeros(like.shape[0], *rows.shape[2:])
    out[(starts[:, None] + torch.arange(real.shape[1], device=rows.device))[real]] = rows[real]
    return out
