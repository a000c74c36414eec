"""The compiler for AMD GPUs and the library built with it, for tests: the compiler that the machine has, or what
cmake/hip_toolchain.py can set up."""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import hip_toolchain

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def found() -> hip_toolchain.Toolchain | str:
    """The toolchain, set up if need be, or why there is none."""
    try:
        return hip_toolchain.set_up()
    except hip_toolchain.ToolchainError as reason:
        return str(reason)


def toolchain() -> hip_toolchain.Toolchain:
    """Skips the calling test without a toolchain; in CI, where one can be set up, that is an error."""
    answer = found()
    if isinstance(answer, str):
        assert "CI" not in os.environ, f"no compiler for AMD GPUs in CI: {answer}"
        pytest.skip(f"no compiler for AMD GPUs: {answer}")
    return answer


def run(command: Sequence[object]) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-4000:]}"


@contextmanager
def configured(arch: str) -> Iterator[Path]:
    """The build folder of libportattn_hip.so for one arch, configured, and kept from other test processes."""
    toolchain()
    folder = ROOT / "build" / f"hip-{arch}"
    folder.mkdir(parents=True, exist_ok=True)
    configure = ["cmake", "--preset", "hip", "-B", folder, "-DPORTATTN_TARGETS=hip", f"-DPORTATTN_HIP_ARCHS={arch}"]
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run([*configure, f"-DPython3_EXECUTABLE={sys.executable}"])
        yield folder


def make(folder: Path, *targets: str) -> None:
    jobs = str(len(os.sched_getaffinity(0)))
    run(["cmake", "--build", folder, "--parallel", jobs, "--target", *targets])


def build(arch: str, *targets: str) -> Path:
    """The build folder of one arch with `targets` made."""
    with configured(arch) as folder:
        make(folder, *targets)
    return folder


def library() -> Path:
    """libportattn_hip.so for gfx942."""
    return build("gfx942", "portattn_hip") / "lib" / "libportattn_hip.so"
