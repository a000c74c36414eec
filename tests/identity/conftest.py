"""Where the golden cases run: the CPU, a simulated AMD GPU and, where there is one, an NVIDIA or AMD GPU."""

from __future__ import annotations

from hip_fixtures import session_simulation, simulation

__all__ = ["session_simulation", "simulation"]
