"""`python -m portattn` answers, also where there is no library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import portattn


def run(module: str, **environment: str) -> str:
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=True)
    return done.stdout


@pytest.mark.parametrize("module", ["portattn", "portattn.info"])
def test_info(module: str) -> None:
    text = run(module)
    assert portattn.__version__ in text
    assert "host" in text
    assert "torch ops  loaded" in text
    assert "jax        not installed" in text or "jax calls  in " in text


def test_info_without_libraries(tmp_path: Path) -> None:
    text = run("portattn", PORTATTN_LIBRARY_DIR=str(tmp_path))
    assert f"C API      not loaded: libportattn.so is not in {tmp_path}" in text
    assert "torch ops  not loaded" in text
    assert "jax        not installed" in text or "jax calls  not there" in text


def test_importing_portattn_loads_nothing() -> None:
    code = "import sys, portattn; print('torch' in sys.modules or 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
