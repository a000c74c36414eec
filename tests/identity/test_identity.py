"""The same on every device: values within the tolerance, dropped elements and chosen tiles to the bit. The expectation
is golden.npz, so that devices which never meet in one machine are compared.

pytest tests/identity --update-golden     writes the file anew, with the CPU library; say why in the commit
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from planner import run_plan

from portattn.common.library import library_path
from portattn.testing.compare import max_error
from portattn.testing.runner import as_rows, make_problem, run_backward, run_forward


@pytest.fixture(scope="session")
def expected(pytestconfig: pytest.Config) -> dict[str, np.ndarray]:
    if pytestconfig.getoption("--update-golden"):
        golden.write()
    with np.load(golden.GOLDEN) as file:
        return dict(file)


@pytest.fixture(params=["host", "gfx942", pytest.param("gpu", marks=pytest.mark.L1)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device of tensors; "gfx942" is the CPU's memory with the simulated GPU at work on it."""
    if request.param == "gpu" and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    if request.param == "gfx942":
        request.getfixturevalue("simulation")
    return "cuda" if request.param == "gpu" else "cpu"


@pytest.mark.parametrize("backend", golden.BACKENDS)
@pytest.mark.parametrize("name", golden.CASES)
def test_values(name: str, backend: str, device: str, expected: dict[str, np.ndarray]) -> None:
    case = golden.CASES[name]
    problem = make_problem(case, device)
    inputs = golden.digest_of_inputs(problem)
    assert np.array_equal(inputs, expected[f"{name}/inputs"]), "this torch draws other random numbers than the file's"
    outputs = run_forward(problem, backend)
    results = outputs | run_backward(problem, outputs, backend)
    sides = {"o": case.q, "lse": case.q, "dq": case.q, "dk": case.kv, "dv": case.kv}
    for result, tensor in results.items():
        rows = as_rows(tensor, sides[result]) if result in sides else tensor
        truth, allowed = expected[f"{name}/{result}"], expected[f"{name}/{result}-allowed"]
        error = max_error(rows.cpu(), torch.from_numpy(truth))
        assert error <= allowed, f"{result}: error {error:.3e}, allowed {allowed:.3e}"


@pytest.mark.parametrize("backend", golden.BACKENDS)
def test_dropped_elements(backend: str, device: str, expected: dict[str, np.ndarray]) -> None:
    case = golden.DROPOUT
    o = run_forward(golden.identity_problem(device), backend)["o"]
    kept = [
        o[span.start : span.start + span.length, h, :length].flatten() != 0
        for span, length in zip(case.q.spans(), case.kv.lens, strict=True)
        for h in range(case.heads_q)
    ]
    assert np.array_equal(np.packbits(torch.cat(kept).cpu().numpy()), expected["dropped/kept"])


@pytest.fixture
def library(device: str, request: pytest.FixtureRequest) -> Path:
    """The device library of `device`."""
    name = request.node.callspec.params["device"]
    if name == "gfx942":
        return request.getfixturevalue("simulation").folder / "libportattn_hip.so"
    if name == "gpu":
        return library_path("libportattn_hip.so" if torch.version.hip else "libportattn_cuda.so")
    return golden.host_library()


def by_sequence(tiles: np.ndarray) -> np.ndarray:
    """Tiles {seq, block}, and -1 where there are none, without the order of sequences."""
    return tiles[np.argsort(tiles[:, 0], kind="stable")]


@pytest.mark.parametrize("name", golden.PLANS)
def test_chosen_tiles(name: str, device: str, library: Path, expected: dict[str, np.ndarray]) -> None:
    for part, values in run_plan(library, golden.PLANS[name], device).items():
        arrange = by_sequence if part == "tiles" else np.asarray
        assert np.array_equal(arrange(values), arrange(expected[f"plan-{name}/{part}"])), part


def test_long_sequences_come_first(device: str, library: Path, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["device"] == "host":
        pytest.skip("the host takes sequences as they come")
    plan = run_plan(library, (5, 3000, 64, (0, 70, 1270, 1280, 2180, 2900), None), device)
    sequences = plan["tiles"][: plan["num_tiles"][0], 0].tolist()
    assert list(dict.fromkeys(sequences)) == [1, 3, 4, 0, 2]
    assert [sequences.count(sequence) for sequence in range(5)] == [2, 19, 1, 15, 13]


def test_a_plan_without_tiles_has_the_same_spans(device: str, library: Path) -> None:
    plan = golden.PLANS["ordinary"]
    batch, tokens, _, offsets, starts = plan
    without_tiles = run_plan(library, (batch, tokens, 0, offsets, starts), device)
    assert np.array_equal(without_tiles["spans"], run_plan(library, plan, device)["spans"])


def test_the_file_is_small() -> None:
    assert golden.GOLDEN.stat().st_size < 300_000
