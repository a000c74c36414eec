"""Compiles the core, device libraries and test programs for tests, without CMake and into a folder of the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import generate

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
SOURCES = Path(__file__).resolve().parent / "cpp"
INCLUDES = [f"-I{CSRC}", f"-I{CSRC / 'include'}", f"-I{CSRC / 'cuda'}"]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1"]
LIBRARY = ["-std=c++17", "-fPIC", "-fvisibility=hidden"]


def compiler(*names: str) -> str:
    """The first of `names` that is installed; the package itself cannot be built without one."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    assert found is not None, f"none of {', '.join(names)} is in PATH: install a C++ compiler"
    return found


def run(command: Iterable[object]) -> None:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(map(str, result.args))}\n{result.stderr}"


def compile_all(sources: Sequence[Path], folder: Path, flags: Sequence[str]) -> list[Path]:
    """Object files of `sources`, as many at a time as there are CPUs."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = [folder / f"{number}_{source.stem}.o" for number, source in enumerate(sources)]

    def compile_one(pair: tuple[Path, Path]) -> None:
        source, target = pair
        run([compiler("g++", "c++"), *LIBRARY, *flags, *INCLUDES, "-x", "c++", "-c", source, "-o", target])

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(compile_one, zip(sources, objects, strict=True)))
    return objects


def link_library(objects: Sequence[Path], target: Path, exports: str, flags: Sequence[str] = ()) -> Path:
    """A shared library sealed as the package's are."""
    seal = ["-Wl,-Bsymbolic", f"-Wl,--version-script={ROOT / 'cmake' / exports}"]
    run([compiler("g++", "c++"), "-shared", *flags, *objects, *seal, "-ldl", "-o", target])
    return target


def core_objects(folder: Path, flags: Sequence[str] = ("-O1",)) -> list[Path]:
    version = '-DPORTATTN_VERSION="0.0.0-test"'
    return compile_all(sorted((CSRC / "core").rglob("*.cpp")), folder / "core", [*flags, *WARNINGS, version])


def build_core(folder: Path, flags: Sequence[str] = ("-O1",)) -> Path:
    """libportattn.so."""
    return link_library(core_objects(folder, flags), folder / "libportattn.so", "exports_core.map", flags)


def build_fake_plugin(
    folder: Path, target: str = "host", flags: Sequence[str] = ("-O1",), more_sources: Sequence[Path] = ()
) -> Path:
    """A device library that records its calls: cpp/fake_plugin.cpp."""
    name = "libportattn_host_generic.so" if target == "host" else f"libportattn_{target}.so"
    options = [*flags, *WARNINGS, f'-DFAKE_TARGET="{target}"']
    objects = compile_all([SOURCES / "fake_plugin.cpp", *more_sources], folder / f"fake_{target}", options)
    run([compiler("g++", "c++"), "-shared", *flags, *objects, "-o", folder / name])
    return folder / name


def build_host_plugin(folder: Path, dtypes: list[str], head_dims: list[list[int]], flags: Sequence[str]) -> Path:
    """The real host library, generic instruction set, with the fused kernels of `dtypes` and `head_dims` alone."""
    codegen = CSRC / "codegen"
    kernels = generate.read_toml(codegen / "kernels.toml")
    kernels["fmha"] |= {"dtypes": dtypes, "head_dims": head_dims}
    tuning = generate.read_toml(codegen / "tuning" / "host.toml")
    generated = folder / "generated"
    generate.write(generate.generate(kernels, {"host": tuning}, "host"), generated)
    sources = sorted((CSRC / "cuda").rglob("*.cu")) + sorted(generated.glob("*.cu"))
    options = [*flags, "-DPORTATTN_TARGET_HOST", "-fopenmp", "-Wall"]
    objects = compile_all(sources, folder / "host_plugin", options)
    return link_library(objects, folder / "libportattn_host_generic.so", "exports_plugin.map", flags)
