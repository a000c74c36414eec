"""The kernels of sm_90 without a GPU: on a model of a block, thread by thread (sm90_model/include/model.h)."""

from __future__ import annotations

from pathlib import Path

import pytest

import programs

MODEL = Path(__file__).resolve().parent / "sm90_model"


def build(name: str, folder: Path) -> Path:
    return programs.build(MODEL / f"{name}.cpp", folder, "-O2", f"-I{MODEL / 'include'}")


def run(program: Path, kernel: str, seed: int) -> None:
    """Each seed is other data, other lengths, and another order of everything that has none."""
    programs.run(program, kernel, str(seed))


@pytest.fixture(scope="module")
def forward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("forward_test", tmp_path_factory.mktemp("sm90_model"))


@pytest.fixture(scope="module")
def backward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("backward_test", tmp_path_factory.mktemp("sm90_model"))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kernel", ["64", "64_packed", "128", "192_128", "512"])
def test_forward(forward: Path, kernel: str, seed: int) -> None:
    run(forward, kernel, seed)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kernel", ["64", "128", "128_long", "64_ordered", "128_ordered", "64_whole"])
def test_backward(backward: Path, kernel: str, seed: int) -> None:
    run(backward, kernel, seed)


@pytest.mark.parametrize("kernel", ["192_128", "256", "512"])
def test_backward_of_wide_heads(backward: Path, kernel: str) -> None:
    run(backward, kernel, 1)
