"""Very many short segments on a simulated AMD GPU, also longer than promised, and forwards and backwards of different
backends, against float64."""

from __future__ import annotations

import pytest

from portattn.testing.runner import check_case
from portattn.testing.small_seq import broken_promise, random_small_case
from simulation import Simulation

PAIRS = (("small_seq", "small_seq"), ("small_seq", "unfused"), ("unfused", "small_seq"))


@pytest.mark.parametrize("seed", range(7000, 7020))
def test_random(seed: int, simulation: Simulation) -> None:
    simulation.order_waves(seed)
    check_case(random_small_case(seed), "cpu", *PAIRS[seed % len(PAIRS)])


@pytest.mark.parametrize("seed", range(7100, 7106))
def test_longer_than_promised(seed: int, simulation: Simulation) -> None:
    check_case(broken_promise(random_small_case(seed)), "cpu", "small_seq")
