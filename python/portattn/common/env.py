"""The only Python file that reads the environment. docs/envvars.md lists every variable."""

from __future__ import annotations

import os
from pathlib import Path


def library_dir() -> Path | None:
    """PORTATTN_LIBRARY_DIR: where the shared libraries are, instead of inside the package."""
    value = os.environ.get("PORTATTN_LIBRARY_DIR", "")
    return Path(value) if value else None


def nondeterministic_allowed() -> bool:
    """NVTE_ALLOW_NONDETERMINISTIC_ALGO=0 asks for bitwise reproducible kernels, as in TransformerEngine."""
    return os.environ.get("NVTE_ALLOW_NONDETERMINISTIC_ALGO", "1") != "0"
