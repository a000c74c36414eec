"""Builds libgfx942_sim.so for this CPU: python -m gfx942_sim.build prints where it is.

CMake builds it, into a folder named after the CPU below GFX942_SIM_CACHE (default: the user's cache folder), since lane
loops use the widest vectors that the CPU has. A later call rebuilds what has changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "libgfx942_sim.so"


def cache_folder() -> Path:
    asked = os.environ.get("GFX942_SIM_CACHE")
    if asked:
        return Path(asked)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gfx942_sim"


def _cpu() -> str:
    """What machine code for this CPU depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{result.stdout[-4000:]}{result.stderr[-4000:]}")


def build() -> Path:
    """The library, up to date."""
    name = hashlib.sha256(f"{ROOT} {os.environ.get('CXX', '')} {_cpu()}".encode()).hexdigest()[:16]
    folder = cache_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes ask at the same time
        _run(["cmake", "-S", str(ROOT), "-B", str(folder), *generator])
        jobs = str(len(os.sched_getaffinity(0)))
        _run(["cmake", "--build", str(folder), "--parallel", jobs, "--target", "gfx942_sim"])
    return folder / "lib" / NAME


if __name__ == "__main__":
    print(build())
