"""The simulated AMD GPU, and how much was executed on it."""

from __future__ import annotations

import pytest

from hip_fixtures import session_simulation, simulation, total

__all__ = ["session_simulation", "simulation"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if total.instructions:
        rate = total.instructions / total.seconds / 1e6
        terminalreporter.write_line(
            f"gfx942 simulator: {total.instructions / 1e6:.1f} M instructions of waves in {total.seconds:.1f} s "
            f"({rate:.1f} M/s), {total.mfma_flops / 1e9:.2f} GFLOP of matrix products"
        )
