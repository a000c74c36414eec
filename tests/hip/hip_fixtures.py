"""Fixtures of tests that use the simulated AMD GPU; a folder's conftest.py imports them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hip_tools
import simulator
from portattn.testing import capi
from simulation import Report, Simulation

total = Report()  # what all tests executed


@pytest.fixture(scope="session")
def session_simulation() -> Simulation:
    hip_tools.toolchain()
    return Simulation(simulator.package())


@pytest.fixture
def simulation(session_simulation: Simulation) -> Iterator[Simulation]:
    """While a test uses it, CPU tensors are the memory of the simulated GPU."""
    session_simulation.reset()
    with capi.using(session_simulation):
        yield session_simulation
    _, report = session_simulation.take_report()
    for name in ("instructions", "mfma_flops", "seconds"):
        setattr(total, name, getattr(total, name) + getattr(report, name))
