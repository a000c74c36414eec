"""Every kind of kernel of gfx950, forward and backward, through the C API: tests of gfx942 in a process of its own,
because a simulated GPU stays what it was at first."""

from __future__ import annotations

import os
import subprocess
import sys

import hip_tools

TESTS = ("tests/hip/test_attention.py", "tests/hip/test_small_seq_simulated.py", "tests/identity")
CHOICE = "test_fused or test_unfused or (small_seq and 700) or (test_identity and gfx942)"


def test_kernels_of_gfx950() -> None:
    hip_tools.toolchain()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, "-k", CHOICE]
    environment = os.environ | {"GFX942_SIM_ARCH": "gfx950"}
    done = subprocess.run(command, cwd=hip_tools.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "gfx942 simulator:" in done.stdout and "skipped" not in done.stdout, done.stdout[-4000:]
