"""The backward kernels of sm_90 without a GPU: on a model of a block, thread by thread (sm90_model/include/model.h)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(__file__).resolve().parent / "sm90_model"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    built = tmp_path_factory.mktemp("sm90_model") / "backward_test"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-DPORTATTN_TARGET_HOST"]
    includes = [f"-I{MODEL / 'include'}", f"-I{ROOT / 'csrc' / 'cuda'}"]  # the model's headers before the kernels'
    subprocess.run([compiler, *flags, *includes, MODEL / "backward_test.cpp", "-o", built], check=True)
    return built


@pytest.mark.parametrize(
    ("kernel", "seed"),
    [
        ("64", 1),
        ("64", 2),
        ("128", 1),
        ("128", 2),
        ("64_ordered", 1),
        ("64_ordered", 2),
        ("128_ordered", 1),
        ("128_ordered", 2),
        ("192_128", 1),
        ("256", 1),
    ],
)
def test_backward(program: Path, kernel: str, seed: int) -> None:
    """Each seed is other data, other lengths, and another order of everything that has none."""
    result = subprocess.run([program, kernel, str(seed)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout
