"""Who may see whom (docs/architecture.md): checks #include lines, import lines and tokens of the source tree.

    python tests/lint/layering.py [ROOT]

Prints file:line and the rule broken, and exits 1 if there is any. Reads text only: nothing is compiled or imported.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
VENDOR_HEADER = re.compile(r"^(cuda\w*\.h|hip/|hip_\w+\.h|nvrtc|cub/|cooperative_groups|mma\.h)")
VENDOR_TOKEN = re.compile(
    r"\b(cuda[A-Z]\w*|hip[A-Z]\w*|asm\b|(thread|block)Idx\b|__shfl\w*|__nv_\w*|__hip_\w*|__sync\w+)"
)
ARCH_SWITCH = re.compile(r"\b(PORTATTN_TARGET_\w+|__CUDA_ARCH__|__HIP_\w+|__gfx\d+\w*__)")
READS_ENVIRONMENT = re.compile(r"\b(secure_)?getenv\s*\(")

# Folders of device code, each with the folders that it may include. A backend sees itself and everything below it.
BELOW_BACKENDS = {"device", "tile", "attn"}
DEVICE_LAYERS = {"device": {"device"}, "arch": {"device", "arch"}, "tile": {"device", "tile"}, "attn": BELOW_BACKENDS}


@dataclass(frozen=True)
class Finding:
    path: PurePosixPath
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


@dataclass(frozen=True)
class Source:
    """One file: its path in the repository, and its code lines (comments blanked, line numbers kept)."""

    path: PurePosixPath
    text: str

    def under(self, *folders: str) -> bool:
        return any(self.path.is_relative_to(folder) for folder in folders)

    def includes(self) -> Iterator[tuple[int, str, str]]:
        """(line, '<' or '"', what is included)"""
        for number, line in enumerate(self.text.splitlines(), 1):
            if match := INCLUDE.match(line):
                yield number, match[1], match[2]

    def matches(self, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(self.text.splitlines(), 1):
            for match in pattern.finditer(line):
                yield number, match[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """(line, absolute dotted name) of every import; relative ones are resolved within python/ and jax_bindings/."""
        package = self.path.parts[1:-1]
        for node in ast.walk(ast.parse(self.text)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                base = list(package[: len(package) - node.level + 1]) if node.level else []
                base += [node.module] if node.module else []
                for alias in node.names:
                    yield node.lineno, ".".join([*base, alias.name])


def without_comments(text: str) -> str:
    """C and C++ text with comments and string contents blanked; #include lines keep their operand."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        if token.startswith('"'):
            return '""'
        return "\n" * token.count("\n")

    lines = re.sub(r"/\*.*?\*/|//[^\n]*", blank, text, flags=re.DOTALL).splitlines()
    return "\n".join(line if INCLUDE.match(line) else re.sub(r'"(\\.|[^"\\])*"', blank, line) for line in lines)


# ---- C and C++ --------------------------------------------------------------------------------------------------


def public_headers_include_only_themselves(source: Source) -> Iterator[Finding]:
    if not source.under("csrc/include"):
        return
    for line, _, name in source.includes():
        if name not in ("stdint.h", "stddef.h") and not name.startswith("portattn/"):
            rule = "csrc/include includes only itself, <stdint.h> and <stddef.h>"
            yield Finding(source.path, line, f"{rule}, not {name}")


def core_sees_plain_headers_only(source: Source) -> Iterator[Finding]:
    if not source.under("csrc/core"):
        return
    for line, _, name in source.includes():
        if VENDOR_HEADER.match(name):
            yield Finding(source.path, line, f"csrc/core includes no vendor header, but {name}")
        elif name.endswith((".cuh", ".cu")):
            yield Finding(source.path, line, f"csrc/core sees the plain C++ headers (.h) of csrc/cuda only, not {name}")


def bindings_include_public_headers_only(source: Source) -> Iterator[Finding]:
    if not source.under("csrc/bindings", "python/csrc", "jax_bindings/csrc", "examples"):
        return
    for line, _, name in source.includes():
        if name.startswith(("core/", "cuda/", "attn/", "fmha/", "device/", "../")):
            yield Finding(source.path, line, f"bindings and examples include csrc/include only, not {name}")


def vendor_tokens_stay_in_their_rooms(source: Source) -> Iterator[Finding]:
    has_room = source.under("csrc/cuda/device", "csrc/cuda/arch", "csrc/hip", "csrc/jit")
    if not source.under("csrc") or has_room or re.match(r"(sm\d+|gfx\d+)_", source.path.name):
        return
    rule = "vendor spelling belongs in device/, arch/, csrc/hip and arch-named pipelines"
    for line, token in source.matches(VENDOR_TOKEN):
        yield Finding(source.path, line, f"{rule}: {token}")
    for line, _, name in source.includes():
        if VENDOR_HEADER.match(name) and not source.under("csrc/core", "csrc/include"):
            yield Finding(source.path, line, f"{rule}: {name}")


def architecture_is_switched_in_one_place(source: Source) -> Iterator[Finding]:
    has_room = source.under("csrc/cuda/device", "csrc/cuda/arch", "csrc/hip")
    if not source.under("csrc") or has_room or source.path.name == "arch_select.cuh":
        return
    for line, token in source.matches(ARCH_SWITCH):
        yield Finding(source.path, line, f"the only architecture switch is tile/arch_select.cuh, but here is {token}")


def device_layers_look_down_only(source: Source) -> Iterator[Finding]:
    """backends -> attn -> tile -> device; an arch is seen by tile/arch_select.cuh and by pipelines of its name alone.
    Plain headers (.h) are contracts and may be seen from anywhere."""
    if not source.under("csrc/cuda", "csrc/hip") or len(source.path.parts) < 4 or source.path.suffix == ".h":
        return
    layer = source.path.parts[2]
    allowed = DEVICE_LAYERS.get(layer, BELOW_BACKENDS | {layer})
    if source.path.name == "arch_select.cuh":
        allowed = allowed | {"arch"}
    for line, quote, name in source.includes():
        if quote == "<" or name.endswith(".h"):
            continue
        target, *below = PurePosixPath(name).parts
        is_own_arch = target == "arch" and source.path.name.startswith(f"{below[0]}_")
        if target not in allowed and not is_own_arch:
            yield Finding(source.path, line, f"{layer}/ may include {', '.join(sorted(allowed))}, but not {name}")


def core_environment_is_read_in_one_place(source: Source) -> Iterator[Finding]:
    if not source.under("csrc", "python/csrc") or source.path == PurePosixPath("csrc/core/env.cpp"):
        return
    for line, _ in source.matches(READS_ENVIRONMENT):
        yield Finding(source.path, line, "only csrc/core/env.cpp reads the environment")


# ---- Python -----------------------------------------------------------------------------------------------------


def imports_top(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def frameworks_stay_in_their_frontends(source: Source) -> Iterator[Finding]:
    torch_rooms = [f"python/portattn/{name}" for name in ("pytorch", "hf", "testing")]
    for line, name in source.imports():
        if source.under("python/portattn") and not source.under(*torch_rooms) and imports_top(name, "torch"):
            yield Finding(source.path, line, "torch is imported in portattn.pytorch, portattn.hf and testing only")
        if source.under("python/portattn") and imports_top(name, "jax", "jaxlib", "portattn_jax"):
            yield Finding(source.path, line, "jax is imported under jax_bindings only")
        if source.under("jax_bindings") and imports_top(name, "torch", "portattn.pytorch"):
            yield Finding(source.path, line, "the two frontends never import each other")


def testing_is_for_tests(source: Source) -> Iterator[Finding]:
    if source.under("python/portattn/testing") or not source.under("python/portattn", "jax_bindings/portattn_jax"):
        return
    for line, name in source.imports():
        if imports_top(name, "portattn.testing"):
            yield Finding(source.path, line, "only tests, benchmarks and examples import portattn.testing")


def python_environment_is_read_in_one_place(source: Source) -> Iterator[Finding]:
    if not source.under("python/portattn", "jax_bindings/portattn_jax") or source.path.name == "env.py":
        return
    if source.under("python/portattn/testing"):
        return
    for node in ast.walk(ast.parse(source.text)):
        is_os = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        if is_os and node.attr in ("environ", "getenv", "putenv"):
            yield Finding(source.path, node.lineno, "only env.py reads the environment")


Rule = Callable[[Source], Iterator[Finding]]
CPP_RULES: list[Rule] = [
    public_headers_include_only_themselves,
    core_sees_plain_headers_only,
    bindings_include_public_headers_only,
    vendor_tokens_stay_in_their_rooms,
    architecture_is_switched_in_one_place,
    device_layers_look_down_only,
    core_environment_is_read_in_one_place,
]
PYTHON_RULES: list[Rule] = [
    frameworks_stay_in_their_frontends,
    testing_is_for_tests,
    python_environment_is_read_in_one_place,
]
CPP_SUFFIXES = {".h", ".c", ".cpp", ".cu", ".cuh"}
FOLDERS = ("csrc", "python", "jax_bindings", "examples")


def check(root: Path) -> list[Finding]:
    findings: list[Finding] = []
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            path = PurePosixPath(file.relative_to(root).as_posix())
            if file.suffix in CPP_SUFFIXES:
                source = Source(path, without_comments(file.read_text()))
                findings += [finding for rule in CPP_RULES for finding in rule(source)]
            elif file.suffix == ".py":
                source = Source(path, file.read_text())
                findings += [finding for rule in PYTHON_RULES for finding in rule(source)]
    return findings


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    findings = check(root)
    print("\n".join(map(str, findings)) or "layering: nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
