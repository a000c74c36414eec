"""The bindings for PyTorch and JAX compile from the same sources under the definitions that ROCm builds of them bring:
nothing in them may depend on a vendor."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import hip_tools

CSRC = hip_tools.ROOT / "csrc"
BINDINGS = {"torch": hip_tools.ROOT / "python" / "csrc", "jaxlib": hip_tools.ROOT / "jax_bindings" / "csrc"}
ROCM_DEFINES = ["-DUSE_ROCM=1", "-D__HIP_PLATFORM_AMD__=1"]
PACKAGE_INCLUDES = {"torch": ["include", "include/torch/csrc/api/include"], "jaxlib": ["include"]}

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def package(name: str) -> Path:
    """Folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is not installed")
    return Path(spec.origin).parent


@needs_compiler
@pytest.mark.parametrize("framework", BINDINGS)
def test_bindings_compile_as_for_rocm(framework: str) -> None:
    folder = package(framework)
    includes = [f"-I{CSRC}", f"-I{CSRC / 'include'}", "-isystem", str(hip_tools.toolchain().rocm / "include")]
    for name in PACKAGE_INCLUDES[framework]:
        includes += ["-isystem", str(folder / name)]
    defines = [*ROCM_DEFINES, "-DTORCH_TARGET_VERSION=0x020b000000000000"]
    for source in sorted(BINDINGS[framework].glob("*.cpp")):
        command = ["g++", "-std=c++17", "-fvisibility=hidden", "-fsyntax-only", *defines, *includes, str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]


@pytest.mark.parametrize("framework", BINDINGS)
def test_bindings_ask_for_no_vendor(framework: str) -> None:
    sources = [path for path in BINDINGS[framework].iterdir() if path.suffix in (".h", ".cpp")]
    assert sources
    conditional = re.compile(r"^\s*#\s*(?:el)?if\w*\b.*(?:USE_ROCM|USE_CUDA|__HIP|__CUDA).*$", re.MULTILINE)
    assert {path.name: conditional.findall(path.read_text()) for path in sources} == {path.name: [] for path in sources}
