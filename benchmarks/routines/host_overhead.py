"""Routine "host_overhead": host time of one eager call on a GPU, many in a row with no synchronisation between them.

The problem is so small that the GPU finishes each call before the host has prepared the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from .cases import Group
from .implementations import LABELS, OURS
from .options import Options
from .timing import Timing, speed_ratio

BATCH, HEADS, SEQLEN, HEAD_DIM = 1, 8, 128, 64
CALLS_PER_RUN = 100  # well under the depth of a CUDA stream's queue


def run(group: Group, options: Options, _: object) -> Iterator[dict[str, Any]]:
    for table in group.tables:
        name = f"{group.name}/{table['model']}"
        if options.wanted(name):
            options.progress(name)
            yield _run_case(group, table, options)


def _run_case(group: Group, table: dict[str, Any], options: Options) -> dict[str, Any]:
    with_grad = table["call"] == "module"
    skipped = {}
    calls: dict[str, Callable[[], object]] = {"sdpa": _sdpa_call(group, with_grad)}
    try:
        calls = {OURS: _portattn_call(group, with_grad), **calls}
    except ImportError as error:
        skipped[OURS] = f"{LABELS[OURS]} cannot be imported: {error}"
    timings = _alternate(calls, options.rounds, group.device)
    row = {
        "case": table["model"],
        "model": table["model"],
        "skipped": skipped,
        "max_us": table["max_us"],
        "implementations": {
            name: {"median_us": 1e3 * timing.median_ms, "spread": timing.spread, "samples_ms": timing.samples_ms}
            for name, timing in timings.items()
        },
    }
    return row | ({"ratio": speed_ratio(timings[OURS], timings["sdpa"])} if OURS in timings else {})


def _inputs(group: Group, with_grad: bool) -> list[torch.Tensor]:
    """q, k, v [b, s, h, d]."""
    shape = (BATCH, SEQLEN, HEADS, HEAD_DIM)
    dtype = getattr(torch, group.dtype)
    return [torch.randn(shape, dtype=dtype, device=group.device, requires_grad=with_grad) for _ in range(3)]


def _portattn_call(group: Group, with_grad: bool) -> Callable[[], object]:
    from portattn.pytorch import DotProductAttention, dot_product_attention

    q, k, v = _inputs(group, with_grad)
    if not with_grad:
        return lambda: dot_product_attention(q, k, v, qkv_format="bshd", attn_mask_type="causal")
    module = DotProductAttention(HEADS, HEAD_DIM, qkv_format="bshd", attn_mask_type="causal")
    return lambda: module(q, k, v)


def _sdpa_call(group: Group, with_grad: bool) -> Callable[[], object]:
    q, k, v = (x.transpose(1, 2) for x in _inputs(group, with_grad))
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _alternate(calls: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, Timing]:
    """Like timing.alternate, by the host's clock: the first round of all warms up."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for round_index in range(rounds + 1):
        for name, call in calls.items():
            _synchronize(device)
            began = time.perf_counter()
            for _ in range(CALLS_PER_RUN):
                call()
            elapsed_ms = 1e3 * (time.perf_counter() - began) / CALLS_PER_RUN
            if round_index > 0:
                samples[name].append(elapsed_ms)
    _synchronize(device)
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
