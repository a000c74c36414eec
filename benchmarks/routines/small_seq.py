"""Routine "small_seq": very many short segments against the copy bandwidth measured in the same rounds, beside peers.

Bytes count what must move: forward reads q, k, v and writes o; backward reads q, k, v, do, lse and writes dq, dk, dv.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from .cases import DIRECTIONS, Group
from .implementations import LABELS, OURS, Implementation, Layout
from .machine import ClockReader
from .options import Options
from .timing import CpuTimer, CudaTimer, Timing, alternate, fastest, speed_ratio

COPY = "copy"
COPY_BYTES = 2 << 30
SPEEDUP_TARGETS = {"forward": 3.5, "backward": 2.7}
CHECKED_SEGMENTS = 64  # at the start, and as many at the end


@dataclass(frozen=True)
class SmallCase:
    """One row of the table: equal query lengths, key lengths equal or drawn from [shortest_kv, seqlen_kv]."""

    model: str
    segments: int
    seqlen_q: int
    seqlen_kv: int
    num_heads_q: int
    num_heads_kv: int
    head_dim: int
    share: float
    shortest_kv: int = 0

    @property
    def lengths_kv(self) -> list[int]:
        if not self.shortest_kv:
            return [self.seqlen_kv] * self.segments
        rng = random.Random(zlib.crc32(self.model.encode()))
        return [rng.randint(self.shortest_kv, self.seqlen_kv) for _ in range(self.segments)]

    def num_bytes(self, direction: str, element_bytes: int) -> int:
        queries = self.segments * self.seqlen_q * self.num_heads_q
        keys = sum(self.lengths_kv) * self.num_heads_kv
        rows, lse = (2 * queries + 2 * keys, 0) if direction == "forward" else (3 * queries + 4 * keys, queries)
        return rows * self.head_dim * element_bytes + 4 * lse


class SmallTokens:
    """Random packed inputs of a case: q, do [t_q, h, d], k, v [t_kv, h_kv, d], offsets int32 [segments + 1]."""

    def __init__(self, case: SmallCase, dtype: torch.dtype, device: str) -> None:
        generator = torch.Generator(device).manual_seed(zlib.crc32(case.model.encode()))

        def draw(tokens: int, heads: int) -> torch.Tensor:
            return torch.randn(tokens, heads, case.head_dim, generator=generator, dtype=dtype, device=device)

        self.lengths_kv = torch.tensor(case.lengths_kv, device=device)
        tokens_q, tokens_kv = case.segments * case.seqlen_q, int(self.lengths_kv.sum())
        self.q, self.do = draw(tokens_q, case.num_heads_q), draw(tokens_q, case.num_heads_q)
        self.k, self.v = draw(tokens_kv, case.num_heads_kv), draw(tokens_kv, case.num_heads_kv)
        self.cu_seqlens_q = torch.arange(case.segments + 1, dtype=torch.int32, device=device) * case.seqlen_q
        self.cu_seqlens_kv = F.pad(self.lengths_kv.cumsum(0), (1, 0)).int()


Maker = Callable[[SmallCase, SmallTokens], tuple[Callable[..., torch.Tensor], Layout]]


def run(group: Group, options: Options, timer: CudaTimer | CpuTimer) -> Iterator[dict[str, Any]]:
    """One row per case and direction."""
    tables = group.tables[:1] if options.smallest_only else group.tables
    for case in (SmallCase(**table) for table in tables):
        directions = [d for d in DIRECTIONS if options.wanted(f"{group.name}/{case.model}/{d}")]
        if directions:
            options.progress(f"{group.name}: {case.model}")
            yield from _run_case(group, case, directions, options, timer)


def _run_case(
    group: Group, case: SmallCase, directions: list[str], options: Options, timer: CudaTimer | CpuTimer
) -> Iterator[dict[str, Any]]:
    tokens = SmallTokens(case, getattr(torch, group.dtype), group.device)
    usable, skipped, checks = _build_all(group, case, tokens, options)
    source = torch.empty(COPY_BYTES // 2, dtype=torch.uint8, device=group.device)
    target = torch.empty_like(source)
    for direction in directions:
        calls = {name: getattr(implementation, direction) for name, implementation in usable.items()}
        calls[COPY] = lambda: target.copy_(source)
        clocks = ClockReader(group.device)
        timings = alternate(calls, timer, options.rounds, halfway=clocks.start)
        copy_gbs = COPY_BYTES / timings.pop(COPY).median_ms / 1e6
        num_bytes = case.num_bytes(direction, tokens.q.element_size())
        row = {
            "case": case.model,
            "model": case.model,
            "direction": direction,
            "bytes": num_bytes,
            "copy_gbs": copy_gbs,
            "clocks": clocks.result(),
            "skipped": skipped,
            "implementations": {
                name: {
                    "median_ms": timing.median_ms,
                    "spread": timing.spread,
                    "share": num_bytes / timing.median_ms / 1e6 / copy_gbs,
                    "samples_ms": timing.samples_ms,
                    "refcheck": checks.get(name),
                }
                for name, timing in timings.items()
            },
        }
        yield row | {"share_target": case.share, "ratio_target": SPEEDUP_TARGETS[direction]} | _best_peer(timings)


def _best_peer(timings: dict[str, Timing]) -> dict[str, Any]:
    """The fastest peer and how many times faster portattn is; empty without both."""
    peers = {name: timing for name, timing in timings.items() if name != OURS}
    if OURS not in timings or not peers:
        return {}
    best = fastest(peers)
    return {"best_peer": best, "ratio": speed_ratio(timings[OURS], timings[best])}


def _build_all(
    group: Group, case: SmallCase, tokens: SmallTokens, options: Options
) -> tuple[dict[str, Implementation], dict[str, str], dict[str, Any]]:
    """What runs, why the others do not, and how right the former are."""
    usable, skipped, checks = {}, {}, {}
    for name in (OURS, *group.peers):
        try:
            implementation = Implementation(*_MAKERS[name](case, tokens), tokens)
            results = implementation.results()
            if options.refcheck:
                checks[name] = verdict(case, tokens, results)
            usable[name] = implementation
        except Exception as error:  # whatever one implementation raises must not take the others' figures with it
            first_line = str(error).partition("\n")[0]
            skipped[name] = f"{LABELS[name]} failed with {type(error).__name__}: {first_line[:100]}"
    return usable, skipped, checks


def verdict(case: SmallCase, tokens: SmallTokens, results: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Error against float64 over the first and last segments, as a share of 1 % of the largest value."""
    from portattn.testing.reference import Span
    from portattn.testing.small_seq import cross_attention_oracle

    group = case.num_heads_q // case.num_heads_kv
    worst, worst_name = 0.0, "o"
    for first in (0, case.segments - CHECKED_SEGMENTS):
        starts = tokens.cu_seqlens_kv[first : first + CHECKED_SEGMENTS + 1].tolist()
        q_rows = slice(first * case.seqlen_q, (first + CHECKED_SEGMENTS) * case.seqlen_q)
        kv_rows = slice(starts[0], starts[-1])
        spans_q = [Span(i * case.seqlen_q, case.seqlen_q) for i in range(CHECKED_SEGMENTS)]
        spans_kv = [Span(a - starts[0], b - a) for a, b in itertools.pairwise(starts)]
        k, v = (t[kv_rows].repeat_interleave(group, 1) for t in (tokens.k, tokens.v))
        truth = cross_attention_oracle(
            tokens.q[q_rows], k, v, tokens.do[q_rows], spans_q, spans_kv, case.head_dim**-0.5
        )
        for name, expected in truth.items():
            rows = q_rows if name in ("o", "dq") else kv_rows
            if name in ("dk", "dv"):
                expected = expected.unflatten(1, (case.num_heads_kv, group)).sum(2)
            error = (results[name][rows].double() - expected).abs().max() / (1e-2 * expected.abs().max())
            worst, worst_name = max((worst, worst_name), (error.nan_to_num(torch.inf).item(), name))
    return {"passed": worst <= 1.0, "worst": worst, "tensor": worst_name}


def _packed() -> Layout:
    return Layout(lambda x: x, lambda x: x)


def _padded(case: SmallCase, tokens: SmallTokens) -> tuple[Layout, torch.Tensor | None]:
    """[b, s, h, d] with the keys zero-padded to the longest, and a mask [b, s_kv] of real keys where some are not."""
    if not case.shortest_kv:
        batches = partial(torch.unflatten, dim=0, sizes=(case.segments, -1))
        return Layout(batches, lambda x: x.flatten(0, 1)), None
    valid = torch.arange(case.seqlen_kv, device=tokens.q.device) < tokens.lengths_kv[:, None]

    def pad(x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == tokens.q.shape[0]:
            return x.unflatten(0, (case.segments, -1))
        padded = x.new_zeros(*valid.shape, *x.shape[1:])
        padded[valid] = x
        return padded

    return Layout(pad, lambda x: x[valid] if x.shape[1] == case.seqlen_kv else x.flatten(0, 1)), valid


def portattn(case: SmallCase, tokens: SmallTokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    from portattn.pytorch import dot_product_attention

    return partial(
        dot_product_attention,
        qkv_format="thd",
        attn_mask_type="padding",
        cu_seqlens_q=tokens.cu_seqlens_q,
        cu_seqlens_kv=tokens.cu_seqlens_kv,
        max_segment_seqlen_q=case.seqlen_q,
        max_segment_seqlen_kv=case.seqlen_kv,
        strict=True,
    ), _packed()


def _cudnn_padded(case: SmallCase, tokens: SmallTokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    layout, valid = _padded(case, tokens)
    mask = None if valid is None else valid[:, None, None, :]
    grouped = case.num_heads_q != case.num_heads_kv

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped).transpose(1, 2)

    return attention, layout


def _einsum_compiled(case: SmallCase, tokens: SmallTokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    layout, valid = _padded(case, tokens)
    group, scale = case.num_heads_q // case.num_heads_kv, case.head_dim**-0.5

    @torch.compile(dynamic=False)
    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q = q.unflatten(2, (-1, group))
        score = torch.einsum("bihgd,bjhd->bhgij", q, k).float() * scale
        if valid is not None:
            score = score.masked_fill(~valid[:, None, None, None, :], -torch.inf)
        p = torch.softmax(score, -1).to(q.dtype)
        return torch.einsum("bhgij,bjhd->bihgd", p, v).flatten(2, 3)

    return attention, layout


def _fa2_varlen(case: SmallCase, tokens: SmallTokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    from torch.nn.attention.varlen import varlen_attn

    offsets = (tokens.cu_seqlens_q, tokens.cu_seqlens_kv, case.seqlen_q, case.seqlen_kv)
    options = {"enable_gqa": True} if case.num_heads_q != case.num_heads_kv else {}
    return lambda q, k, v: varlen_attn(q, k, v, *offsets, **options), _packed()


def _fa4_varlen(case: SmallCase, tokens: SmallTokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    from flash_attn.cute import flash_attn_varlen_func

    options = {
        "cu_seqlens_q": tokens.cu_seqlens_q,
        "cu_seqlens_k": tokens.cu_seqlens_kv,
        "max_seqlen_q": case.seqlen_q,
        "max_seqlen_k": case.seqlen_kv,
    }
    return lambda q, k, v: flash_attn_varlen_func(q, k, v, **options)[0], _packed()


_MAKERS: dict[str, Maker] = {
    OURS: portattn,
    "cudnn_padded": _cudnn_padded,
    "einsum_compiled": _einsum_compiled,
    "fa2_varlen": _fa2_varlen,
    "fa4_varlen": _fa4_varlen,
}
