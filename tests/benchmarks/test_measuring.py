"""The reference check can fail, layouts convert back, timing alternates, and what was measured is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import bench
import pytest
import torch
from routines.attention import comparison
from routines.cases import Case, Group, Target
from routines.implementations import FASTEST, Tokens, UnavailableError, build
from routines.refcheck import expected_slices, verdict
from routines.timing import CpuTimer, Timing, alternate, speed_ratio

CASES = [
    Case("dense", "shape", (48, 48), False, 4, 2, 16, "causal"),
    Case("packed", "shape", (48, 7, 20), True, 4, 4, 16, "full"),
    Case("packed", "shape", (48, 7, 20), True, 4, 4, 16, "causal"),
]


def peer_of(case: Case) -> str:
    return "sdpa_padded" if case.packed else "sdpa"


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_torch_passes_the_reference_check(case: Case) -> None:
    tokens = Tokens.random(case, torch.float32, "cpu")
    slices = expected_slices(case, tokens.q, tokens.k, tokens.v, tokens.do)
    assert verdict(build(peer_of(case), case, tokens).results(), slices).passed


@pytest.mark.parametrize("name", ["o", "dq", "dk", "dv"])
@pytest.mark.parametrize("damage", [1e-3, float("nan")])
def test_a_damaged_tensor_fails_the_reference_check(case: Case, name: str, damage: float) -> None:
    tokens = Tokens.random(case, torch.float32, "cpu")
    slices = expected_slices(case, tokens.q, tokens.k, tokens.v, tokens.do)
    results = build(peer_of(case), case, tokens).results()
    results[name] = results[name].clone()
    results[name][-1, -1, 0] += damage
    found = verdict(results, slices)
    assert not found.passed and found.tensor == name


def test_what_cannot_run_here_is_named_with_its_reason() -> None:
    tokens = Tokens.random(CASES[1], torch.float32, "cpu")
    with pytest.raises(UnavailableError, match="failed with"):
        build("fa2_varlen", CASES[1], tokens)


def test_rounds_alternate_and_rotate() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    timer = CpuTimer()
    timer.calibrate = lambda _: None
    timings = alternate(calls, timer, rounds=3)
    assert "".join(order) == "abcbcacab"
    assert all(len(timing.samples_ms) == 3 for timing in timings.values())


def test_ratio_is_paired_by_round() -> None:
    """A machine that slows down halfway must not change the ratio."""
    assert speed_ratio(Timing((1.0, 1.0, 10.0)), Timing((2.0, 2.0, 20.0))) == 2.0


def test_the_fastest_peer_is_one_that_is_right() -> None:
    group = Group("g", "Group", "cuda", "attention", "bfloat16", ("a", "b", "wrong"), Target(FASTEST, 1.0))
    timings = {"portattn": Timing((2.0,)), "a": Timing((3.0,)), "b": Timing((4.0,)), "wrong": Timing((1.0,))}
    assert comparison(group, timings, {"wrong": {"passed": False}}) == {"peer": "a", "ratio": 1.5, "target": 1.0}
    assert comparison(group, {"portattn": Timing((2.0,))}, {}) == {}


def test_rows_are_saved_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped_from_outside(*_: object) -> Iterator[dict[str, str]]:
        yield {"case": "first"}
        raise KeyboardInterrupt

    monkeypatch.setitem(bench.ROUTINES, "attention", stopped_from_outside)
    group = Group("g", "Group", "cpu", "attention", "float32", ())
    arguments = bench.parse_arguments([group], ["--json", str(tmp_path / "out.json")])
    with pytest.raises(KeyboardInterrupt):
        bench.measure([group], arguments, {"gpu": "GPU"})
    (saved,) = json.loads((tmp_path / "out.json").read_text())["groups"]
    assert saved["rows"] == [{"case": "first"}]
