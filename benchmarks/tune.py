#!/usr/bin/env python3
"""Tries tile sizes of one kernel: builds each candidate, throws out what spills, times the rest, prints them in order.

python benchmarks/tune.py --arch gfx942 --kernel fwd --head-dims 128x128 \\
    --try block_q=64,128 --try block_kv=32,64 --try min_blocks=1,2 --filter "dense.*hd128.*forward"

The winner's numbers go by hand into csrc/codegen/tuning/<arch>.toml, for both the kernel and its _plain one, which are
tried together. Everything is built in build/tune-<arch>; nothing that is installed or in the checkout changes.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TUNING = ROOT / "csrc" / "codegen" / "tuning"
TARGETS = {"host": "host", "sm80": "cuda", "gfx942": "hip"}  # arch -> device library that holds its kernels
PLAIN = "_plain"

Tuning = dict[str, Any]
Numbers = dict[str, Any]


def toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def tuning_text(tuning: Tuning) -> str:
    """A tuning file: [kernel.width] sections of head dims, and what stands before them."""
    lines = [f"{key} = {toml_value(value)}" for key, value in tuning.items() if not isinstance(value, dict)]
    for kernel, widths in tuning.items():
        for width, rows in widths.items() if isinstance(widths, dict) else ():
            lines += [f"[{kernel}.{width}]", *(f"{pair} = {toml_value(numbers)}" for pair, numbers in rows.items())]
    return "\n".join(lines) + "\n"


def parse_tries(texts: list[str]) -> dict[str, list[Any]]:
    """["block_q=64,128"] -> {"block_q": [64, 128]}; a grid of warps is written 2x4."""

    def value(text: str) -> Any:
        numbers = [int(number) for number in text.split("x")]
        return numbers if len(numbers) > 1 else numbers[0]

    return {text.partition("=")[0]: [value(word) for word in text.partition("=")[2].split(",")] for text in texts}


def candidates(tries: dict[str, list[Any]]) -> Iterator[Numbers]:
    for values in itertools.product(*tries.values()):
        yield dict(zip(tries, values, strict=True))


def with_numbers(tuning: Tuning, kernel: str, width: str, pair: str, numbers: Numbers) -> Tuning:
    """The tuning with some numbers of a kernel, and of its _plain one, replaced."""
    changed = copy.deepcopy(tuning)
    for name in (kernel, kernel + PLAIN):
        row = changed.get(name, {}).get(width, {}).get(pair)
        if row is None and name == kernel:
            raise SystemExit(f"the tuning file has no {pair} in [{kernel}.{width}]")
        if row is not None:
            if unknown := sorted(set(numbers) - set(row)):
                raise SystemExit(f"[{name}.{width}] {pair} has no {', '.join(unknown)}; it has {', '.join(row)}")
            row.update(numbers)
    return changed


def build(folder: Path, arch: str, tuning: Tuning) -> str:
    """Builds the libraries with a tuning; returns "" or why it is out."""
    for path in TUNING.glob("*.toml"):
        shutil.copy(path, folder)
    (folder / f"{arch}.toml").write_text(tuning_text(tuning))
    torch = Path(importlib.util.find_spec("torch").origin).parent
    configure = ["cmake", "-S", ROOT, "-B", folder, f"-DPORTATTN_TUNING_DIR={folder}", f"-DPORTATTN_TORCH_DIR={torch}"]
    configure += [f"-DPORTATTN_TARGETS={TARGETS[arch]}", f"-DPython3_EXECUTABLE={sys.executable}"]
    make = ["cmake", "--build", folder, "--parallel", str(len(os.sched_getaffinity(0)))]
    for command in (configure, make):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            (folder / "failure.log").write_text(done.stdout)
            return f"does not build: {folder / 'failure.log'}"
        if "registers spill" in done.stdout or "bytes spill" in done.stdout:
            return "spills"
    return ""


def time_cases(folder: Path, pattern: str) -> dict[str, float]:
    """Case and direction -> median milliseconds of portattn."""
    results = folder / "results.json"
    environment = os.environ | {"PORTATTN_LIBRARY_DIR": str(folder / "lib")}
    command = [sys.executable, ROOT / "benchmarks" / "bench.py", "--filter", pattern, "--json", results]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    rows = [row for group in json.loads(results.read_text())["groups"] for row in group.get("rows", [])]
    times = {f"{row['case']} {row['direction']}": row["implementations"].get("portattn", {}) for row in rows}
    return {case: taken["median_ms"] for case, taken in times.items() if "median_ms" in taken}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", required=True, choices=TARGETS)
    parser.add_argument("--kernel", required=True, choices=["fwd", "bwd", "bwd_dq"])
    parser.add_argument("--width", default="16-bit", choices=["16-bit", "32-bit"])
    parser.add_argument("--head-dims", required=True, metavar="QKxV")
    parser.add_argument("--try", dest="tries", action="append", required=True, metavar="NAME=VALUE,VALUE")
    parser.add_argument("--filter", required=True, metavar="REGEX", help="cases of bench.py to time")
    args = parser.parse_args()
    folder = ROOT / "build" / f"tune-{args.arch}"
    folder.mkdir(parents=True, exist_ok=True)
    tuning = tomllib.loads((TUNING / f"{args.arch}.toml").read_text())
    build(folder, args.arch, tuning)  # everything else, so that what a candidate's build prints is its own
    ranked = []
    for numbers in candidates(parse_tries(args.tries)):
        changed = with_numbers(tuning, args.kernel, args.width, args.head_dims, numbers)
        reason = build(folder, args.arch, changed)
        times = {} if reason else time_cases(folder, args.filter)
        if not reason and not times:
            raise SystemExit(f"no case of bench.py matches {args.filter}: see bench.py --list")
        print(f"{toml_value(numbers)}: {reason or times}", flush=True)
        if times:
            ranked.append((statistics.geometric_mean(times.values()), toml_value(numbers)))
    print("\ngeometric mean, ms")
    print("\n".join(f"{mean:10.4f}  {numbers}" for mean, numbers in sorted(ranked)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
