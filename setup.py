"""Packaging: runs CMake and puts the libraries into portattn/lib.

The core and the host library need a C++ compiler only. The CUDA library is added where nvcc and a GPU are present, the
HIP library where ROCm >= 6.2, a GPU and torch (for its hipify) are, the torch ops where torch >= 2.11 is installed, the
jax handlers where jaxlib >= 0.10 is. The host library is built for this CPU, and for any. Instead of looking:
    PORTATTN_TARGETS=host,cuda,hip              device libraries to build
    PORTATTN_HIP_ARCHS=gfx942,gfx950            machine code in the HIP library
    PORTATTN_HOST_ISAS=generic,avx2,avx512      variants of the host library; all three for a wheel that travels
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LIB = Path("portattn", "lib")


def has_nvidia_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return listed.returncode == 0 and "GPU" in listed.stdout


def can_build_cuda() -> bool:
    has_nvcc = shutil.which("nvcc") or Path("/usr/local/cuda/bin/nvcc").exists() or "CUDACXX" in os.environ
    return bool(has_nvcc) and has_nvidia_gpu()


def can_build_hip() -> bool:
    if not Path("/dev/kfd").exists():  # the compute driver of AMD GPUs
        return False
    found = subprocess.run([sys.executable, ROOT / "cmake" / "hip_toolchain.py"], capture_output=True, text=True)
    reason = found.stderr.strip() or ("" if torch_dir() else "its sources are translated by torch's hipify")
    if reason:
        print(f"portattn: no HIP library, though this machine has an AMD GPU: {reason}", flush=True)
    return not reason


def words_of(variable: str) -> list[str]:
    """The words of an environment variable, separated by commas; empty without it."""
    return [word.strip() for word in os.environ.get(variable, "").split(",") if word.strip()]


def device_targets() -> list[str]:
    if asked := words_of("PORTATTN_TARGETS"):
        return asked
    return ["host"] + ["cuda"] * can_build_cuda() + ["hip"] * can_build_hip()


def host_isas() -> list[str]:
    if asked := words_of("PORTATTN_HOST_ISAS"):
        return asked
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if {"avx512f", "avx512bw", "avx512vl", "avx512dq", "fma", "f16c"} <= flags:
        return ["generic", "avx512"]
    return ["generic", "avx2"] if {"avx2", "fma", "f16c"} <= flags else ["generic"]


FIND_PACKAGE = """
import importlib.metadata, importlib.util, pathlib, sys
if spec := importlib.util.find_spec(sys.argv[1]):
    print(importlib.metadata.version(sys.argv[1]), pathlib.Path(spec.origin).parent)
"""


def package_dir(name: str, what: str, needed: tuple[int, int]) -> str:
    """Folder of an installed package, "" without one. Asks a Python that ignores PYTHONPATH, by which pip hides the
    environment that it installs into behind a temporary one."""
    command = [sys.executable, "-E", "-c", FIND_PACKAGE, name]
    found = subprocess.run(command, capture_output=True, text=True).stdout.split(maxsplit=1)
    if not found:
        print(f"portattn: no {what}: {name} is not installed in this environment", flush=True)
        return ""
    version, folder = found
    if tuple(int(part) for part in version.split(".")[:2]) < needed:
        print(f"portattn: no {what}: {name} is {version}, they need at least {needed[0]}.{needed[1]}", flush=True)
        return ""
    return folder.strip()


def torch_dir() -> str:
    return package_dir("torch", "torch ops", (2, 11))


def jax_include_dir() -> str:
    """Headers of XLA's FFI: jax.ffi.include_dir(), found without importing jax."""
    jaxlib = package_dir("jaxlib", "jax handlers", (0, 10))
    return str(Path(jaxlib, "include")) if jaxlib else ""


class CMakeBuild(build_ext):
    """The one "extension" is the set of libraries that CMake installs."""

    def run(self) -> None:
        destination = ROOT / "python" / LIB if self.inplace else Path(self.build_lib).absolute() / LIB
        ninja = shutil.which("ninja")
        build = ROOT / "build" / ("package" if ninja else "package-make")
        configure = ["cmake", "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Release"]
        configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
        configure += [f"-DPython3_EXECUTABLE={sys.executable}", f"-DPORTATTN_TORCH_DIR={torch_dir()}"]
        configure += [f"-DPORTATTN_JAX_INCLUDE_DIR={jax_include_dir()}"]
        configure += [f"-DPORTATTN_TARGETS={';'.join(device_targets())}"]
        configure += [f"-DPORTATTN_HOST_ISAS={';'.join(host_isas())}"]
        if archs := words_of("PORTATTN_HIP_ARCHS"):
            configure += [f"-DPORTATTN_HIP_ARCHS={';'.join(archs)}"]
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(len(os.sched_getaffinity(0))))
        shutil.rmtree(destination, ignore_errors=True)  # what an earlier build with more targets left behind
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", build, "--parallel", jobs], check=True)
        subprocess.run(["cmake", "--install", build, "--prefix", destination], check=True)

    def get_outputs(self) -> list[str]:
        return [] if self.inplace else [str(path) for path in (Path(self.build_lib) / LIB).glob("*.so")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return []


class NativeLibraries(Extension):
    """Tells setuptools that the wheel is of one platform."""

    def __init__(self) -> None:
        super().__init__("portattn.lib", sources=[], py_limited_api=True)


def commands() -> dict[str, type]:
    """build_ext, and a wheel tagged py3-none-<platform>: the libraries do not depend on the Python version."""
    found: dict[str, type] = {"build_ext": CMakeBuild}
    try:
        from setuptools.command.bdist_wheel import bdist_wheel
    except ImportError:
        from wheel.bdist_wheel import bdist_wheel

    class PlatformWheel(bdist_wheel):
        def get_tag(self) -> tuple[str, str, str]:
            return ("py3", "none", super().get_tag()[2])

    return found | {"bdist_wheel": PlatformWheel}


setup(ext_modules=[NativeLibraries()], cmdclass=commands())
