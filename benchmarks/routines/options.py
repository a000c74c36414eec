"""How a run is done, as the command line asked for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Rounds of alternation, reference check or not, which cases by name, and where progress is told."""

    rounds: int
    refcheck: bool
    smallest_only: bool
    wanted: Callable[[str], bool]
    progress: Callable[[str], None]
