"""Makes the HIP mirror of csrc/cuda: every file translated by name, under its own name, with csrc/hip merged into it.

    python hipify.py --source csrc/cuda --overlay csrc/hip --out build/hip/hipified

The names come from PyTorch's hipify (torch.utils.hipify, or hipify_torch) and from hipify_map.json: "map" adds names,
"skip" leaves out NVIDIA machine code, "allow" lists CUDA names that may stay. What is left of CUDA where a
HIP build would see it is an error with file and line. An unchanged file is not touched. Prints the .cu files.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

SUFFIXES = {".cu", ".cuh", ".h"}
MAP = Path(__file__).resolve().parent / "hipify_map.json"

# CUDA's spelling, in code: functions, types, macros and headers, and warp functions whose mask names 32 lanes.
CUDA_TOKEN = re.compile(
    r"\b(cuda\w*|cu[A-Z]\w*|CUDA\w*|CU_\w+|CUtensorMap\w*|nv_\w+|nvcuda|__nv_\w+|__cuda\w*|__CUDA\w*|__\w+_sync"
    r"|__syncwarp|__activemask|__ldg|__cvta_\w+)\b"
)
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
CONDITIONAL = re.compile(r"\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b(.*)")
DEFINED_TARGET = re.compile(r"defined\s*\(?\s*PORTATTN_TARGET_(\w+)\s*\)?")

Translate = Callable[[str], str]


class HipifyError(Exception):
    """Everything that is wrong, a line each."""


@dataclass(frozen=True)
class Rules:
    skip: list[str]
    map: dict[str, str]
    allow: list[str]

    def skips(self, relative: Path) -> bool:
        return any(fnmatch.fnmatchcase(relative.as_posix(), pattern) for pattern in self.skip)


def hipify_of_torch(torch: Path) -> ModuleType:
    """torch.utils.hipify.hipify_python without importing torch, which would take seconds."""
    folder = torch / "utils" / "hipify"
    package = importlib.util.spec_from_file_location(
        "hipify_of_torch", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules["hipify_of_torch"] = importlib.util.module_from_spec(package)
    return importlib.import_module("hipify_of_torch.hipify_python")


def find_hipify() -> ModuleType:
    if spec := importlib.util.find_spec("torch"):
        return hipify_of_torch(Path(spec.origin).parent)
    if importlib.util.find_spec("hipify_torch"):
        return importlib.import_module("hipify_torch.v2.hipify_python")
    raise HipifyError(
        f"{sys.executable} has neither torch nor hipify_torch, which hold the CUDA to HIP names: install torch (any "
        "build, `pip install torch`), or hipify_torch (https://github.com/ROCm/hipify_torch)"
    )


def translation(hipify: ModuleType, extra: dict[str, str]) -> Translate:
    own = re.compile(r"\b(" + "|".join(map(re.escape, extra)) + r")\b") if extra else None

    def translate(text: str) -> str:
        if own is not None:
            text = own.sub(lambda match: extra[match[0]], text)
        return hipify.RE_PYTORCH_PREPROCESSOR.sub(lambda match: hipify.PYTORCH_MAP[match[0]], text)

    return translate


# ---- What is left of CUDA ---------------------------------------------------------------------------------------


def holds(condition: str) -> bool | None:
    """Whether a condition on PORTATTN_TARGET_* holds in a HIP build; None: it asks for something else too."""
    words = DEFINED_TARGET.sub(lambda match: "1" if match[1] == "HIP" else "0", condition)
    if not re.fullmatch(r"[01!&|()\s]+", words):
        return None
    return bool(eval(words.replace("!", " not ").replace("&&", " and ").replace("||", " or ").strip()))


def seen_by_hip(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of the lines outside branches that a HIP build never takes."""
    open_branches: list[tuple[bool, bool]] = []  # (is seen, an earlier branch of this #if is taken for sure)
    for number, line in enumerate(text.splitlines(), 1):
        match = CONDITIONAL.match(line)
        word, condition = match.groups() if match else ("", "")
        is_first = not word or word.startswith("if")
        taken = False if is_first else open_branches.pop()[1]
        if all(seen for seen, _ in open_branches):
            yield number, line
        if word == "else":
            open_branches.append((not taken, True))
        elif word and word != "endif":
            answer = holds(condition) if word in ("if", "elif") else None
            open_branches.append((not taken and answer is not False, taken or answer is True))


def without_comments(text: str) -> str:
    """Comments and string contents blanked, line numbers kept."""
    return COMMENT_OR_STRING.sub(lambda match: "\n" * match[0].count("\n"), text)


def leftovers(path: Path, text: str, allow: list[str]) -> Iterator[str]:
    for number, line in seen_by_hip(without_comments(text)):
        for match in CUDA_TOKEN.finditer(line):
            if match[0] not in allow:
                yield (
                    f"{path}:{number}: {match[0]} has no HIP name: give it a branch in csrc/cuda/device, or a name in "
                    "cmake/hipify_map.json"
                )


# ---- The mirror -------------------------------------------------------------------------------------------------


def files_in(folder: Path) -> dict[Path, Path]:
    """Relative path -> file, of every source in a folder."""
    return {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.suffix in SUFFIXES}


def mirrored(source: Path, overlay: Path, rules: Rules, translate: Translate) -> dict[Path, str]:
    """Relative path -> text of every file of the mirror."""
    ours, amd = files_in(source), files_in(overlay)
    errors = [f"{amd[name]}:1: {ours[name]} has that name too: rename one" for name in sorted(ours.keys() & amd.keys())]
    mirror: dict[Path, str] = {}
    for name, file in ours.items():
        if not rules.skips(name):
            mirror[name] = translate(file.read_text())
            errors += leftovers(file, mirror[name], rules.allow)
    for name, file in amd.items():
        mirror[name] = file.read_text()
        errors += leftovers(file, mirror[name], rules.allow)
    if errors:
        raise HipifyError("\n".join(errors))
    return mirror


def write(mirror: dict[Path, str], out: Path) -> None:
    """Makes `out` hold the mirror and nothing else; an unchanged file keeps its time."""
    for name, file in files_in(out).items():
        if name not in mirror:
            file.unlink()
    for name, text in mirror.items():
        path = out / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if files_in(out).keys() != mirror.keys():
        raise HipifyError(f"{out} holds {len(files_in(out))} files, not the {len(mirror)} of the mirror: remove it")


def hipify(source: Path, overlay: Path, out: Path, rules: Rules) -> dict[Path, str]:
    """Writes the mirror of source and overlay into `out` and returns it."""
    for folder in (source, overlay):
        if not folder.is_dir():
            raise HipifyError(f"{folder} is no folder")
        if out.resolve().is_relative_to(folder.resolve()):
            raise HipifyError(f"--out {out} lies in {folder}: nothing is written into the sources")
    mirror = mirrored(source, overlay, rules, translation(find_hipify(), rules.map))
    write(mirror, out)
    return mirror


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--overlay", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder to write to, outside of both")
    args = parser.parse_args()
    try:
        mirror = hipify(args.source, args.overlay, args.out, Rules(**json.loads(MAP.read_text())))
    except HipifyError as errors:
        print(f"portattn: {errors}", file=sys.stderr)
        return 1
    print("\n".join(str(args.out / name) for name in mirror if name.suffix == ".cu"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
