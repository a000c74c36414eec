"""Which HIP runtime the core puts below libportattn_hip.so, and what it says when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import native

# Loads runtimes as another part of the process would, [GLOBAL:]path each, then lets the core describe its devices.
PROGRAM = """
import ctypes, sys
core, *runtimes = sys.argv[1:]
for runtime in runtimes:
    scope, path = runtime.split(":")
    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL if scope == "global" else ctypes.RTLD_LOCAL)
text = ctypes.create_string_buffer(1 << 16)
library = ctypes.CDLL(core)
assert library.nvte_describe_devices(text, ctypes.c_size_t(len(text)), ctypes.byref(ctypes.c_size_t())) == 0
print(text.value.decode().splitlines()[2])
print(library.nvte_cpu_device_type())
"""
SIMULATOR = "libgfx942_sim_hip.so"
ROCM = "libamdhip64.so.6"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The core, a device library that needs a HIP runtime, and a runtime under both of its names."""
    folder = tmp_path_factory.mktemp("parts")
    native.build_core(folder, ["-O0"])
    native.build_fake_plugin(folder, "hip", ["-O0"], [native.SOURCES / "needs_hip_runtime.cpp"])
    objects = native.compile_all(
        [native.SOURCES / "fake_hip_runtime.cpp"], folder / "runtime", ["-fvisibility=default"]
    )
    for name in (SIMULATOR, ROCM):
        native.run([native.compiler("g++", "c++"), "-shared", *objects, f"-Wl,-soname={name}", "-o", folder / name])
    return folder


def describe(folder: Path, *runtimes: str, simulate: str = "0") -> tuple[str, str]:
    """The HIP line of a fresh process, and its stderr."""
    command = [sys.executable, "-c", PROGRAM, str(folder / "libportattn.so"), *runtimes]
    environment = os.environ | {"PORTATTN_HIP_SIM": simulate}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    line, device_type = result.stdout.splitlines()
    assert device_type == ("2" if simulate == "1" else "0"), "CPU tensors belong to the simulated GPU, or to the host"
    return line, result.stderr


def installed(parts: Path, folder: Path, *names: str) -> Path:
    for name in ("libportattn.so", *names):
        shutil.copy(parts / name, folder)
    return folder


def test_no_library(parts: Path, tmp_path: Path) -> None:
    line, _ = describe(installed(parts, tmp_path), simulate="1")
    assert line.startswith("hip: not loaded: ") and "libportattn_hip.so: cannot open shared object file" in line


def test_no_runtime(parts: Path, tmp_path: Path) -> None:
    line, _ = describe(installed(parts, tmp_path, "libportattn_hip.so"))
    assert line.startswith("hip: not loaded: no HIP runtime: libamdhip64.so.7: ") and "install ROCm" in line


def test_no_simulator(parts: Path, tmp_path: Path) -> None:
    line, _ = describe(installed(parts, tmp_path, "libportattn_hip.so"), simulate="1")
    assert line.startswith("hip: not loaded: PORTATTN_HIP_SIM is 1, but the simulator does not load: ")
    assert f"{SIMULATOR}: cannot open shared object file" in line


def test_the_simulator_is_used_when_asked_for(parts: Path, tmp_path: Path) -> None:
    line, _ = describe(installed(parts, tmp_path, "libportattn_hip.so", SIMULATOR), simulate="1")
    assert line.startswith(f"hip: libportattn_hip.so, built for fake, runtime {tmp_path}/{SIMULATOR}, device 0: ")


def test_the_simulator_is_not_used_unasked(parts: Path, tmp_path: Path) -> None:
    line, _ = describe(installed(parts, tmp_path, "libportattn_hip.so", SIMULATOR))
    assert line.startswith("hip: not loaded: no HIP runtime: ")


@pytest.mark.parametrize("scope", ["global", "local"])
def test_the_runtime_of_the_process_is_joined(parts: Path, tmp_path: Path, scope: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    runtime = shutil.copy(parts / ROCM, elsewhere)
    line, _ = describe(installed(parts, tmp_path, "libportattn_hip.so"), f"{scope}:{runtime}")
    assert f"runtime {runtime}, device 0: " in line


def test_no_simulation_beside_a_real_runtime(parts: Path, tmp_path: Path) -> None:
    folder = installed(parts, tmp_path, "libportattn_hip.so", SIMULATOR)
    line, _ = describe(folder, f"global:{parts / ROCM}", simulate="1")
    assert line.startswith("hip: not loaded: PORTATTN_HIP_SIM is 1, but this process already has a HIP runtime, ")


def test_a_value_that_is_not_understood_is_reported(parts: Path, tmp_path: Path) -> None:
    _, errors = describe(installed(parts, tmp_path), simulate="yes")
    assert "portattn: PORTATTN_HIP_SIM is 'yes'; allowed are 0 and 1; using 0" in errors
