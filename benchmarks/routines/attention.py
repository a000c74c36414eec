"""Routine "attention": forward and backward time of portattn and its peers on one problem, after a reference check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .cases import Case, Group
from .implementations import FASTEST, LABELS, OURS, Implementation, Tokens, UnavailableError, build
from .machine import ClockReader
from .options import Options
from .refcheck import expected_slices, verdict
from .timing import CpuTimer, CudaTimer, Timing, alternate, fastest, speed_ratio


def run(group: Group, options: Options, timer: CudaTimer | CpuTimer) -> Iterator[dict[str, Any]]:
    """One row per case and direction."""
    for case in group.attention_cases(options.smallest_only):
        directions = [d for d in group.directions if options.wanted(f"{group.name}/{case.name}/{d}")]
        if directions:
            options.progress(f"{group.name}: {case.name}")
            yield from run_case(group, case, directions, options, timer)


def run_case(
    group: Group, case: Case, directions: list[str], options: Options, timer: CudaTimer | CpuTimer
) -> Iterator[dict[str, Any]]:
    tokens = Tokens.random(case, getattr(torch, group.dtype), group.device)
    usable, skipped = _build_all(group, case, tokens)
    checks = _check_all(case, tokens, usable) if options.refcheck else {}
    for direction in directions:
        calls = {name: getattr(implementation, direction) for name, implementation in usable.items()}
        clocks = ClockReader(group.device)
        timings = alternate(calls, timer, options.rounds, halfway=clocks.start) if calls else {}
        row = {
            "case": case.name,
            "model": case.model,
            "shape": case.shape,
            "heads": f"{case.num_heads_q}/{case.num_heads_kv}",
            "mask": case.mask,
            "direction": direction,
            "flops": case.flops(direction),
            "clocks": clocks.result(),
            "skipped": skipped,
            "implementations": {
                name: {
                    "median_ms": timing.median_ms,
                    "spread": timing.spread,
                    "tflops": case.flops(direction) / timing.median_ms / 1e9,
                    "samples_ms": timing.samples_ms,
                    "refcheck": checks.get(name),
                }
                for name, timing in timings.items()
            },
        }
        yield row | comparison(group, timings, checks)


def _build_all(group: Group, case: Case, tokens: Tokens) -> tuple[dict[str, Implementation], dict[str, str]]:
    usable, skipped = {}, {}
    for name in (OURS, *group.peers):
        try:
            usable[name] = build(name, case, tokens, group.backend, group.deterministic)
        except UnavailableError as reason:
            skipped[name] = f"{LABELS[name]} {reason}"
    return usable, skipped


def _check_all(case: Case, tokens: Tokens, usable: dict[str, Implementation]) -> dict[str, dict[str, Any]]:
    slices = expected_slices(case, tokens.q, tokens.k, tokens.v, tokens.do)
    return {name: vars(verdict(implementation.results(), slices)) for name, implementation in usable.items()}


def comparison(group: Group, timings: dict[str, Timing], checks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Speed against the peer that the group is measured by, and what it should be; empty without both."""
    right = {name: timings[name] for name in timings if checks.get(name, {}).get("passed", True)}
    peers = {name: timing for name, timing in right.items() if name != OURS}
    if group.target is None or OURS not in timings or not peers:
        return {}
    peer = fastest(peers) if group.target.peer == FASTEST else group.target.peer
    if peer not in peers:
        return {}
    return {"peer": peer, "ratio": speed_ratio(timings[OURS], peers[peer]), "target": group.target.ratio}
