"""The C API on a simulated AMD GPU: gfx942 machine code, every access checked against the tensors of the call, against
float64."""

from __future__ import annotations

import pytest

import hip_cases
from portattn.testing.random_config import random_case
from portattn.testing.runner import check_case
from simulation import Simulation

FUSED, UNFUSED = hip_cases.fused_cases(), hip_cases.unfused_cases()


@pytest.mark.parametrize("name", FUSED)
def test_fused(name: str, simulation: Simulation) -> None:
    check_case(FUSED[name], forward="fused_varlen")


@pytest.mark.parametrize("name", UNFUSED)
def test_unfused(name: str, simulation: Simulation) -> None:
    check_case(UNFUSED[name], forward="unfused")


@pytest.mark.parametrize("seed", range(5000, 5020))
def test_random(seed: int, simulation: Simulation) -> None:
    """Forward and backward in any backend, waves of a block in a random order."""
    simulation.order_waves(seed)
    backends = ("fused_varlen", "fused_varlen") if seed % 3 else ("unfused", "fused_varlen")
    check_case(random_case(seed), "cpu", *backends)
