"""Which compiler and which ROCm are taken, and what is said when one is missing or too old. Compilers are scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

import hip_toolchain
from hip_toolchain import ToolchainError, find


def plant_compiler(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "AMD clang version {version} (roc)"\n')
    path.chmod(0o755)
    return path


def plant_rocm(root: Path, version: str | None = None) -> Path:
    """A ROCm with the clang `version`, or a tree of headers without one."""
    (root / "include" / "hip").mkdir(parents=True)
    (root / "include" / "hip" / "hip_runtime.h").touch()
    if version is not None:
        plant_compiler(root / "bin" / "amdclang++", version)
    return root


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ROCm, nor the tree, nor a stock compiler, nor a wish."""
    monkeypatch.setattr(hip_toolchain, "TREE", tmp_path / "tree")
    monkeypatch.setattr(hip_toolchain, "ROCM", tmp_path / "opt" / "rocm")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("ROCM_PATH", raising=False)
    monkeypatch.delenv("HIPCXX", raising=False)


def test_bare_machine_is_told_what_to_do() -> None:
    with pytest.raises(ToolchainError, match=r"install ROCm >= 6\.2 .* --set-up"):
        find()


def test_rocm_comes_with_its_compiler(tmp_path: Path) -> None:
    rocm = plant_rocm(tmp_path / "opt" / "rocm", "18.0.0")
    plant_rocm(tmp_path / "tree")
    toolchain = find()
    assert (toolchain.rocm, toolchain.compiler) == (rocm, rocm / "bin" / "amdclang++")
    assert toolchain.archs == ["gfx942"]  # gfx950 came with clang 20


def test_tree_goes_with_the_stock_compiler(tmp_path: Path) -> None:
    tree = plant_rocm(tmp_path / "tree")
    stock = plant_compiler(tmp_path / "bin" / hip_toolchain.STOCK_COMPILER, "22.1.8")
    toolchain = find()
    assert (toolchain.rocm, toolchain.compiler) == (tree, stock)
    assert toolchain.archs == ["gfx942", "gfx950"]
    assert toolchain.flags[:3] == ["-x", "hip", f"--rocm-path={tree}"]


def test_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_rocm(tmp_path / "opt" / "rocm", "18.0.0")
    asked = plant_rocm(tmp_path / "asked")
    compiler = plant_compiler(tmp_path / "own" / "clang", "21.0.0")
    monkeypatch.setenv("ROCM_PATH", str(asked))
    monkeypatch.setenv("HIPCXX", str(compiler))
    toolchain = find()
    assert (toolchain.rocm, toolchain.compiler) == (asked, compiler)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("ROCM_PATH", r"ROCM_PATH is /nowhere, but .* correct or unset"),
        ("HIPCXX", "HIPCXX is /nowhere, which is no exec"),
    ],
)
def test_a_wrong_wish_is_an_error(
    variable: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_rocm(tmp_path / "opt" / "rocm", "20.0.0")
    monkeypatch.setenv(variable, "/nowhere")
    with pytest.raises(ToolchainError, match=expected):
        find()


def test_old_rocm_is_refused(tmp_path: Path) -> None:
    plant_rocm(tmp_path / "opt" / "rocm", "17.0.0")
    with pytest.raises(ToolchainError, match="is clang 17; needed is 18 or later"):
        find()
