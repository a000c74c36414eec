"""C++ programs on the headers that device code uses, for the CPU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(source: Path, folder: Path, *flags: str) -> Path:
    """Compiles `source` into `folder`. What `flags` include comes before the headers of the project."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = folder / source.stem
    always = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-DPORTATTN_TARGET_HOST"]
    includes = [f"-I{ROOT / 'csrc' / part}" for part in ("cuda", "hip")]
    subprocess.run([compiler, *always, *flags, *includes, source, "-o", program], check=True)
    return program


def run(program: Path, *arguments: str) -> str:
    """What the program prints; it must end well."""
    result = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout
    return result.stdout
