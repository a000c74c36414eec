"""Routine "jax": portattn_jax beside the PyTorch path on the same tokens, and beside what JAX ships, in one process.

Times are those of the kernels alone, which neither framework's host work reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from . import implementations, small_seq
from .cases import DIRECTIONS, Case, Group, expand_attention_case
from .implementations import LABELS, OURS, Implementation, Tokens, UnavailableError
from .machine import ClockReader
from .options import Options
from .refcheck import expected_slices, verdict
from .timing import KernelTimer, alternate, speed_ratio

TORCH = "portattn_torch"


@dataclass(frozen=True)
class Problem:
    """One row of the table: its tokens, the PyTorch path over them, and the judge of results."""

    name: str
    tokens: Tokens | small_seq.SmallTokens
    lengths: tuple[torch.Tensor, torch.Tensor]
    causal: bool
    packed: bool
    build_torch: Callable[[], Implementation]
    judge: Callable[[dict[str, torch.Tensor]], dict[str, Any]]


def run(group: Group, options: Options, _: object) -> Iterator[dict[str, Any]]:
    """One row per case and direction."""
    for table in group.tables[:1] if options.smallest_only else group.tables:
        problems = _small_problem if "segments" in table else _attention_problems
        for name, make in problems(group, table):
            directions = [d for d in DIRECTIONS if options.wanted(f"{group.name}/{name}/{d}")]
            if directions:
                options.progress(f"{group.name}: {name}")
                yield from _rows(group, make(), directions, options)


def _attention_problems(group: Group, table: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Problem]]]:
    for case in expand_attention_case(table):
        yield case.name, partial(_attention_problem, group, case)


def _attention_problem(group: Group, case: Case) -> Problem:
    tokens = Tokens.random(case, getattr(torch, group.dtype), group.device)
    lengths = torch.tensor(case.seqlens, device=group.device)
    slices = expected_slices(case, tokens.q, tokens.k, tokens.v, tokens.do)
    return Problem(
        case.name, tokens, (lengths, lengths), case.causal, case.packed,
        partial(implementations.build, OURS, case, tokens), lambda results: vars(verdict(results, slices)),
    )  # fmt: skip


def _small_problem(group: Group, table: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Problem]]]:
    case = small_seq.SmallCase(**table)

    def make() -> Problem:
        tokens = small_seq.SmallTokens(case, getattr(torch, group.dtype), group.device)
        lengths = (torch.full_like(tokens.lengths_kv, case.seqlen_q), tokens.lengths_kv)
        return Problem(
            case.model, tokens, lengths, False, True,
            lambda: Implementation(*small_seq.portattn(case, tokens), tokens), partial(small_seq.verdict, case, tokens),
        )  # fmt: skip

    yield case.model, make


def _rows(group: Group, problem: Problem, directions: list[str], options: Options) -> Iterator[dict[str, Any]]:
    usable, skipped = _build_all(group, problem)
    checks = {name: problem.judge(call.results()) for name, call in usable.items()} if options.refcheck else {}
    for direction in directions:
        clocks = ClockReader(group.device)
        calls = {name: getattr(call, direction) for name, call in usable.items()}
        timings = alternate(calls, KernelTimer(), options.rounds, halfway=clocks.start) if calls else {}
        row = {
            "case": problem.name,
            "direction": direction,
            "clocks": clocks.result(),
            "skipped": skipped,
            "implementations": {
                name: {
                    "median_ms": timing.median_ms,
                    "spread": timing.spread,
                    "samples_ms": timing.samples_ms,
                    "refcheck": checks.get(name),
                }
                for name, timing in timings.items()
            },
        }
        if OURS in timings and TORCH in timings:
            row |= {"ratio": speed_ratio(timings[OURS], timings[TORCH]), "target": group.target.ratio}
        yield row


def _build_all(group: Group, problem: Problem) -> tuple[dict[str, Any], dict[str, str]]:
    from . import jax_calls  # not above: the other routines need no jax

    tokens, sides = problem.tokens, map(jax_calls.Side, problem.lengths)
    batch = jax_calls.Batch(tokens.q, tokens.k, tokens.v, tokens.do, *sides, problem.causal, problem.packed)
    usable, skipped = {}, {}
    for name in (OURS, *group.peers):
        try:
            usable[name] = problem.build_torch() if name == TORCH else jax_calls.build(name, batch)
        except UnavailableError as reason:
            skipped[name] = f"{LABELS[name]} {reason}"
    return usable, skipped
