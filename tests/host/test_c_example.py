"""examples/c_api.c compiles as strict C11 against the installed library, runs, and agrees with its own reference."""

from __future__ import annotations

import subprocess
from pathlib import Path

import native
from portattn.common.library import CORE_LIBRARY, library_path


def test_c_example(tmp_path: Path) -> None:
    folder = library_path(CORE_LIBRARY).parent
    program = tmp_path / "c_api"
    flags = ["-std=c11", "-pedantic", *native.WARNINGS, f"-I{native.CSRC / 'include'}"]
    link = [f"-L{folder}", "-lportattn", f"-Wl,-rpath,{folder}", "-lm"]
    native.run([native.compiler("cc", "gcc"), *flags, native.ROOT / "examples" / "c_api.c", *link, "-o", program])
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "fused_varlen: chosen" in result.stdout


def test_headers_are_plain_c(tmp_path: Path) -> None:
    for header in sorted((native.CSRC / "include" / "portattn").glob("*.h")):
        source = tmp_path / "alone.c"
        source.write_text(f'#include "portattn/{header.name}"\n')
        flags = ["-std=c11", "-pedantic", *native.WARNINGS, f"-I{native.CSRC / 'include'}", "-fsyntax-only"]
        native.run([native.compiler("cc", "gcc"), *flags, source])
