"""Finds what compiles for AMD GPUs: ROCm, or else stock clang with a tree of HIP headers and device libraries.

    python cmake/hip_toolchain.py            prints compiler, ROCm path and archs, or says what is missing
    python cmake/hip_toolchain.py --set-up   installs what is missing first: clang from Debian, the tree from PyPI

A tree is enough to compile, not to run. HIPCXX names another compiler, ROCM_PATH another ROCm or tree.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROCM = Path("/opt/rocm")
TREE = Path(__file__).resolve().parents[1] / "build" / "rocm"
STOCK_COMPILER = "clang++-22"
STOCK_PACKAGES = ("clang-22", "clang-tools-22", "lld-22", "llvm-22")
OLDEST_CLANG = 18  # ROCm 6.2
OLDEST_CLANG_OF_ARCH = {"gfx942": OLDEST_CLANG, "gfx950": 20}

# The one wheel on PyPI with HIP's headers and device libraries; only those are taken out of it, whatever Python runs.
WHEEL = "triton==3.9.0 --hash=sha256:1622118a038b0c6e16fa4a0305da62c8b3c15904ee1cc4d4e65846a25969e41e"
WHEEL_TAGS = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_27_x86_64")
WHEEL_FOLDERS = {"triton/backends/amd/include/hip/": "include/hip", "triton/backends/amd/lib/": "amdgcn/bitcode"}
HIP_VERSION = "HIP_VERSION_MAJOR=7\nHIP_VERSION_MINOR=1\nHIP_VERSION_PATCH=25424\n"

# The device libraries read the target from constants, one bitcode file for each value: file -> (type, name, value).
CONSTANTS = {
    "oclc_isa_version_942": ("int", "__oclc_ISA_version", 9402),
    "oclc_isa_version_950": ("int", "__oclc_ISA_version", 9500),
    **{f"oclc_abi_version_{abi}": ("int", "__oclc_ABI_version", abi) for abi in (400, 500, 600)},
    **{
        f"oclc_{file}_{word}": ("char", f"__oclc_{name}", value)
        for word, value in (("on", 1), ("off", 0))
        for file, name in (
            ("wavefrontsize64", "wavefrontsize64"),
            ("finite_only", "finite_only_opt"),
            ("unsafe_math", "unsafe_math_opt"),
            ("daz_opt", "daz_opt"),
            ("correctly_rounded_sqrt", "correctly_rounded_sqrt32"),
        )
    },
}
EMPTY_LIBRARIES = ("opencl", "hip")  # clang looks whether they exist and links neither


class ToolchainError(Exception):
    """What is not there, and what to do about it."""


@dataclass(frozen=True)
class Toolchain:
    compiler: Path
    rocm: Path

    @property
    def clang_major(self) -> int:
        printed = subprocess.run([self.compiler, "--version"], capture_output=True, text=True, check=True).stdout
        return int(re.findall(r"clang version (\d+)", printed)[0])

    @property
    def archs(self) -> list[str]:
        major = self.clang_major
        return [arch for arch, oldest in OLDEST_CLANG_OF_ARCH.items() if major >= oldest]

    @property
    def flags(self) -> list[str]:
        """What any HIP source needs. The tree's headers come before those that the system may have in /usr/include."""
        return ["-x", "hip", f"--rocm-path={self.rocm}", "-isystem", str(self.rocm / "include"), "-fuse-cuid=none"]

    def tool(self, name: str) -> Path:
        """An LLVM tool of the compiler's own installation, "llvm-objdump" for example."""
        return self.compiler.resolve().parent / name


def first_existing(paths: Sequence[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def is_rocm(root: Path) -> bool:
    return (root / "include" / "hip" / "hip_runtime.h").exists()


def find_rocm() -> Path | None:
    asked = os.environ.get("ROCM_PATH")
    if asked and not is_rocm(Path(asked)):
        raise ToolchainError(f"ROCM_PATH is {asked}, but include/hip/hip_runtime.h is not in it: correct or unset it")
    return Path(asked) if asked else next((root for root in (ROCM, TREE) if is_rocm(root)), None)


def find_compiler(rocm: Path | None) -> Path | None:
    asked = os.environ.get("HIPCXX")
    if asked:
        found = shutil.which(asked)
        if found is None:
            raise ToolchainError(f"HIPCXX is {asked}, which is no executable: correct or unset it")
        return Path(found)
    own = [rocm / name for name in ("bin/amdclang++", "llvm/bin/clang++", "lib/llvm/bin/clang++")] if rocm else []
    stock = shutil.which(STOCK_COMPILER)
    return first_existing([*own, *([Path(stock)] if stock else [])])


def find() -> Toolchain:
    rocm = find_rocm()
    compiler = find_compiler(rocm)
    missing = [
        text for text, found in (("the HIP headers", rocm), (f"amdclang++ or {STOCK_COMPILER}", compiler)) if not found
    ]
    if rocm is None or compiler is None:
        raise ToolchainError(
            f"{' and '.join(missing)} not found: install ROCm >= 6.2 (looked for in {ROCM}; ROCM_PATH says where "
            "else), or run `python cmake/hip_toolchain.py --set-up` for a tree that compiles without ROCm"
        )
    toolchain = Toolchain(compiler, rocm)
    if toolchain.clang_major < OLDEST_CLANG:
        raise ToolchainError(
            f"{compiler} is clang {toolchain.clang_major}; needed is {OLDEST_CLANG} or later (ROCm >= 6.2)"
        )
    return toolchain


# ---- Setting up -------------------------------------------------------------------------------------------------


def run(command: Sequence[object], stdin: str | None = None) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise ToolchainError(f"`{' '.join(words)}` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def install_compiler() -> None:
    packages = " ".join(STOCK_PACKAGES)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ToolchainError(
            f"{STOCK_COMPILER} is not in PATH: install {packages} (as root on Debian, this script does)"
        )
    run(["apt-get", "update"])
    install = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends"]
    run([*install, *STOCK_PACKAGES])


def unpack_wheel(folder: Path, scratch: Path) -> None:
    """Headers and the ocml and ockl libraries of the pinned wheel."""
    pinned = scratch / "requirements.txt"
    pinned.write_text(WHEEL + "\n")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *WHEEL_TAGS]
    run([*download, "--dest", scratch, "--require-hashes", "--requirement", pinned])
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        for name in wheel.namelist():
            for prefix, target in WHEEL_FOLDERS.items():
                if name.startswith(prefix) and name.endswith((".h", ".hpp", ".bc")):
                    path = folder / target / name.removeprefix(prefix)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(wheel.read(name))


def compile_constants(compiler: Path, bitcode: Path) -> None:
    command = [compiler, "-x", "c", "-target", "amdgcn-amd-amdhsa", "-nogpulib", "-O0", "-c", "-emit-llvm"]
    command += ["-Xclang", "-mcode-object-version=none", "-"]
    qualifiers = 'extern const __attribute__((visibility("protected"), weak, address_space(4)))'
    for file, (kind, name, value) in CONSTANTS.items():
        run([*command, "-w", "-o", bitcode / f"{file}.bc"], f"{qualifiers} {kind} {name} = {value};\n")
    for file in EMPTY_LIBRARIES:
        run([*command, "-o", bitcode / f"{file}.bc"], "")


def make_tree(compiler: Path, tree: Path) -> None:
    """Makes the tree beside its place and moves it there whole: who finds it finds all of it."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=f".{tree.name}-") as temporary:
        folder = Path(temporary) / "tree"
        unpack_wheel(folder, Path(temporary))
        compile_constants(compiler, folder / "amdgcn" / "bitcode")
        version = folder / "share" / "hip" / "version"
        version.parent.mkdir(parents=True)
        version.write_text(HIP_VERSION)
        try:
            folder.rename(tree)
        except OSError:
            if not is_rocm(tree):  # another process was faster
                raise


def set_up() -> Toolchain:
    """find(), after installing what is missing."""
    rocm = find_rocm()
    if find_compiler(rocm) is None:
        install_compiler()
    compiler = find_compiler(rocm)
    if rocm is None and compiler is not None:
        make_tree(compiler, TREE)
    return find()


def main(arguments: list[str]) -> int:
    try:
        toolchain = set_up() if arguments == ["--set-up"] else find()
    except ToolchainError as reason:
        print(f"portattn: {reason}", file=sys.stderr)
        return 1
    print(f"{toolchain.compiler};{toolchain.rocm};{' '.join(toolchain.archs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
