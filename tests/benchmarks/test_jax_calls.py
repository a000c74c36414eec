"""The JAX side of the benchmark: its implementations compute what the reference check expects, forward and backward."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from routines.cases import Case
from routines.implementations import OURS, Tokens, UnavailableError
from routines.refcheck import expected_slices, verdict
from routines.small_seq import SmallCase, SmallTokens
from routines.small_seq import verdict as small_verdict

if importlib.util.find_spec("jax") is None:
    pytest.skip("needs jax", allow_module_level=True)

from routines.jax_calls import Batch, Side, build

CASES = [
    Case("dense", "shape", (48, 48), False, 4, 2, 16, "causal"),
    Case("packed", "shape", (48, 7, 20), True, 4, 4, 16, "full"),
    Case("packed", "shape", (48, 7, 20), True, 4, 4, 16, "causal"),
]


def batch_of(case: Case, tokens: Tokens) -> Batch:
    side = Side(torch.tensor(case.seqlens))
    return Batch(tokens.q, tokens.k, tokens.v, tokens.do, side, side, case.causal, case.packed)


@pytest.mark.parametrize("name", [OURS, "jax_einsum"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_attention_passes_the_reference_check(case: Case, name: str) -> None:
    tokens = Tokens.random(case, torch.float32, "cpu")
    slices = expected_slices(case, tokens.q, tokens.k, tokens.v, tokens.do)
    found = verdict(build(name, batch_of(case, tokens)).results(), slices)
    assert found.passed, found


def short_segments() -> tuple[SmallCase, SmallTokens, Batch]:
    case = SmallCase("short", 130, 1, 16, 4, 2, 32, share=0.5, shortest_kv=2)
    tokens = SmallTokens(case, torch.float32, "cpu")
    sides = (Side(torch.ones_like(tokens.lengths_kv)), Side(tokens.lengths_kv))
    return case, tokens, Batch(tokens.q, tokens.k, tokens.v, tokens.do, *sides, False, True)


@pytest.mark.parametrize("name", [OURS, "jax_einsum"])
def test_short_segments_pass_the_reference_check(name: str) -> None:
    case, tokens, batch = short_segments()
    found = small_verdict(case, tokens, build(name, batch).results())
    assert found["passed"], found


def test_a_damaged_gradient_fails() -> None:
    case, tokens, batch = short_segments()
    results = build("jax_einsum", batch).results()
    results["dk"] = results["dk"] * 1.02
    assert small_verdict(case, tokens, results)["tensor"] == "dk"
    assert not small_verdict(case, tokens, results)["passed"]


def test_what_cannot_run_here_is_named_with_its_reason() -> None:
    with pytest.raises(UnavailableError, match="failed with"):
        build("jax_cudnn", short_segments()[2])
