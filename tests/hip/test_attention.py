"""The C API on a simulated AMD GPU: gfx942 machine code, every access checked against the tensors of the call, against
float64."""

from __future__ import annotations

import pytest

import hip_cases
from portattn.testing.random_config import random_case
from portattn.testing.runner import check_case
from simulation import Simulation

PAIRS = (("fused_varlen", "fused_varlen"), ("fused_varlen", "unfused"), ("unfused", "fused_varlen"))
FUSED, UNFUSED = hip_cases.fused_cases(), hip_cases.unfused_cases()


@pytest.mark.parametrize("name", FUSED)
def test_fused(name: str, simulation: Simulation) -> None:
    check_case(FUSED[name], forward="fused_varlen")


@pytest.mark.parametrize("name", UNFUSED)
def test_unfused(name: str, simulation: Simulation) -> None:
    check_case(UNFUSED[name], forward="unfused")


@pytest.mark.parametrize("seed", range(5000, 5040))
def test_random(seed: int, simulation: Simulation) -> None:
    """Forward and backward in any backend, waves of a block in a random order."""
    simulation.order_waves(seed)
    case = random_case(seed)
    has_fused = case.dtype != "float32" or max(case.d_qk, case.d_v) <= 192  # larger tiles would not fit
    check_case(case, "cpu", *(PAIRS[seed % len(PAIRS)] if has_fused else ("unfused", "unfused")))
