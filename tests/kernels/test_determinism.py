"""What must be bitwise repeatable is: forwards always, backwards when asked for, dropout from the same state."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portattn.testing.random_config import Case, Side
from portattn.testing.runner import make_problem, run_backward, run_forward

SIDE = Side("thd", (130, 1, 300, 64))
CASE = Case(
    q=SIDE, kv=SIDE, heads_q=4, heads_kv=2, d_qk=64, d_v=64, dtype="bfloat16", mask="padding_causal",
    softmax="learnable", bias="post_scale_bias", dropout=0.2, deterministic=True,
)  # fmt: skip
BACKENDS = ("fused_varlen", "unfused")


def assert_same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), f"{name} differs between two runs"


@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_is_repeatable(backend: str, device: str) -> None:
    problem = make_problem(replace(CASE, deterministic=False), device)
    first = run_forward(problem, backend)
    for _ in range(3):
        assert_same_bits(first, run_forward(problem, backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_deterministic_backward_is_repeatable(backend: str, device: str) -> None:
    problem = make_problem(CASE, device)
    outputs = run_forward(problem, backend)
    first = run_backward(problem, outputs, backend)
    for _ in range(3):
        assert_same_bits(first, run_backward(problem, outputs, backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_result_does_not_depend_on_the_number_of_threads(backend: str) -> None:
    problem = make_problem(CASE)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            outputs = run_forward(problem, backend)
            results.append(outputs | run_backward(problem, outputs, backend))
    finally:
        torch.set_num_threads(threads)
    assert_same_bits(*results)


def test_backends_drop_the_same_elements(device: str) -> None:
    """With v the identity, o shows the dropped probabilities of every query."""
    case = replace(
        CASE, q=Side("thd", (100, 64)), kv=Side("thd", (64, 64)), mask="padding", bias="no_bias", dropout=0.4
    )
    problem = make_problem(case, device)
    problem.inputs["v"].copy_(torch.eye(64).repeat(2, 1)[:, None, :].expand(-1, 2, -1))
    fused, unfused = (run_forward(problem, backend)["o"] == 0 for backend in BACKENDS)
    assert torch.equal(fused, unfused) and 0.35 < float(fused.double().mean()) < 0.45


def test_another_offset_drops_other_elements(device: str) -> None:
    problem = make_problem(replace(CASE, bias="no_bias"), device)
    first = run_forward(problem)["o"]
    problem.inputs["rng_state"][1] += 1
    assert not torch.equal(first, run_forward(problem)["o"])
