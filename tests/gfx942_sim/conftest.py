"""The simulator's package and, compiled for gfx942, the kernels of sources/."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import gfx942_sim
import hip_tools

SOURCES = Path(__file__).resolve().parent / "sources"
Compile = Callable[..., gfx942_sim.CodeObject]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """compiled("memory", "O3"): the kernels of sources/memory.hip."""
    folder = tmp_path_factory.mktemp("kernels")
    known: dict[tuple[str, ...], gfx942_sim.CodeObject] = {}

    def compile_source(name: str, level: str = "O3", arch: str = "gfx942") -> gfx942_sim.CodeObject:
        if (name, level, arch) not in known:
            target = folder / f"{name}_{level}_{arch}.co"
            toolchain = hip_tools.toolchain()
            options = [f"--offload-arch={arch}", "--cuda-device-only", "--no-gpu-bundle-output", f"-{level}"]
            command = [toolchain.compiler, *toolchain.flags, *options, "-std=c++17", "-w"]
            command += [SOURCES / f"{name}.hip", "-o", target]
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            known[name, level, arch] = gfx942_sim.load(target)
        return known[name, level, arch]

    return compile_source


@pytest.fixture(params=["O0", "O3"])
def level(request: pytest.FixtureRequest) -> str:
    """Code without optimisation keeps everything in scratch and calls functions; optimised code does neither."""
    return request.param
