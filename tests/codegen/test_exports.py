"""The installed libraries export one name space each and need nothing that a bare machine has not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import portattn

LIB = Path(portattn.__file__).parent / "lib"
LIBRARIES = sorted(LIB.glob("libportattn*.so"))

EXPORTS = {
    "libportattn.so": r"nvte_\w+",
    "libportattn_jax.so": r"portattn_jax_\w+",
    "libportattn_torch.so": r"(?!)",  # torch ops register themselves
}
PLUGIN_EXPORTS = r"portattn_plugin"
SYSTEM = r"lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so\.\d+|ld-linux.*"
NEEDS = {"libportattn_torch.so": SYSTEM + r"|lib(torch|torch_cpu|c10)\.so"}

needs_binutils = pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf and nm are not installed")


def printed(*command: object) -> str:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


def test_core_and_host_library_are_installed() -> None:
    names = {path.name for path in LIBRARIES}
    assert "libportattn.so" in names
    assert any(name.startswith("libportattn_host_") for name in names)


@needs_binutils
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_exports_one_name_space(library: Path) -> None:
    names = [line.split()[-1] for line in printed("nm", "-D", "--defined-only", library).splitlines() if line]
    allowed = EXPORTS.get(library.name, PLUGIN_EXPORTS)
    assert [name for name in names if not re.fullmatch(allowed, name)] == []
    assert names or allowed == r"(?!)"


@needs_binutils
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_binds_no_public_name_of_another_library(library: Path) -> None:
    """A reference to nvte_* would go to whichever library of the process has that name first."""
    undefined = printed("nm", "-D", "--undefined-only", library)
    assert re.findall(r"\bnvte_\w+|\bportattn\w+", undefined) == []


@needs_binutils
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_needs_system_libraries_only_and_keeps_no_path(library: Path) -> None:
    dynamic = printed("readelf", "-d", library)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    assert [name for name in needed if not re.fullmatch(NEEDS.get(library.name, SYSTEM), name)] == []
    assert not re.search(r"\((RPATH|RUNPATH)\)", dynamic)
