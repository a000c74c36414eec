#!/usr/bin/env python3
"""Times portattn beside the attention that PyTorch ships, in one process, alternating run by run.

python benchmarks/bench.py                                  every group that this machine has the device for
python benchmarks/bench.py --group cpu_dense --filter causal --json out.json
python benchmarks/bench.py --update-docs                    docs/performance.md from benchmarks/results/*.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Some peers take half of the device for scratch; one's must serve the next without lying in pieces.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch
from routines import attention, host_overhead, jax_beside_torch, plots, report, small_seq
from routines.cases import Group, load_groups
from routines.machine import REPOSITORY, describe
from routines.options import Options
from routines.timing import make_timer

ROUTINES = {
    "attention": attention.run,
    "host_overhead": host_overhead.run,
    "jax": jax_beside_torch.run,
    "small_seq": small_seq.run,
}
ROUNDS, QUICK_ROUNDS = 24, 5
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGE = REPOSITORY / "docs" / "performance.md"
PICTURES = REPOSITORY / "docs" / "images"


def parse_arguments(groups: list[Group], words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [group.name for group in groups]
    parser.add_argument("--group", action="append", choices=names, help="a file of cases/; repeat for several")
    parser.add_argument("--filter", default="", metavar="REGEX", help="cases by group/model/shape/mask/direction")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="only groups of this device")
    parser.add_argument("--rounds", type=int, help=f"rounds of alternation (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help=f"smallest shapes, {QUICK_ROUNDS} rounds")
    parser.add_argument("--no-refcheck", action="store_true", help="skip the comparison with float64")
    parser.add_argument("--commit", help="what to record as the commit, where there is no checkout")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the results there")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument(
        "--update-docs", nargs="*", type=Path, metavar="JSON", help="measure nothing; rewrite docs/performance.md"
    )
    return parser.parse_args(words)


def measure(groups: list[Group], arguments: argparse.Namespace, machine: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs the groups; prints each table as soon as a group is complete, and writes the JSON anew after each row."""
    pattern = re.compile(arguments.filter)
    options = Options(
        rounds=arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS),
        refcheck=not arguments.no_refcheck,
        smallest_only=arguments.quick,
        wanted=lambda name: pattern.search(name) is not None,
        progress=lambda text: print(f"  {text}", file=sys.stderr, flush=True),
    )
    results = []
    for group in groups:
        began = time.monotonic()
        results.append(new_result(group))
        for _ in measure_group(group, options, results[-1]):
            write_json(arguments.json, machine, results)
        print(f"\n### {group.title}\n\n{report.group_report(results[-1])}\n", flush=True)
        write_json(arguments.json, machine, results)
        options.progress(f"{group.name}: {time.monotonic() - began:.0f} s")
    return results


def cannot_run(group: Group) -> str:
    """What this machine lacks for a group; "" when it lacks nothing."""
    if group.device == "cuda" and not torch.cuda.is_available():
        return "this machine has no GPU that PyTorch can use"
    if group.routine == "jax" and importlib.util.find_spec("jax") is None:
        return "jax is not installed"
    return ""


def new_result(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "title": group.title,
        "device": group.device,
        "routine": group.routine,
        "dtype": group.dtype,
        "peers": group.peers,
        "target": vars(group.target) if group.target else None,
        "rows": [],
    }


def measure_group(group: Group, options: Options, result: dict[str, Any]) -> Iterator[None]:
    """Fills the result in, and yields after each row."""
    if reason := cannot_run(group):
        result["skipped"] = reason
        return
    try:
        for row in ROUTINES[group.routine](group, options, make_timer(group.device)):
            result["rows"].append(row)
            yield
    except Exception as error:  # the rows that were measured still count, and so do the other groups
        traceback.print_exc()
        result["error"] = f"stopped by {type(error).__name__}: {error}"


def write_json(path: Path | None, machine: dict[str, Any], results: list[dict[str, Any]]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": machine, "groups": results}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def update_docs(paths: list[Path]) -> None:
    """Tables and pictures of docs/performance.md from results files, all of benchmarks/results when none is named."""
    paths = paths or sorted(RESULTS.glob("*.json"))
    if not paths:
        sys.exit(f"no results to show: write some with --json {RESULTS.relative_to(REPOSITORY)}/<machine>.json")
    pictures = {}
    for path in paths:
        drawn = plots.draw(json.loads(path.read_text(encoding="utf-8")), path.stem, PICTURES)
        pictures[path.stem] = [picture.relative_to(PAGE.parent).as_posix() for picture in drawn]
    report.update_docs(PAGE, paths, pictures)


def main() -> int:
    groups = load_groups()
    arguments = parse_arguments(groups)
    if arguments.update_docs is not None:
        update_docs(arguments.update_docs)
        return 0
    chosen = [group for group in groups if not arguments.group or group.name in arguments.group]
    chosen = [group for group in chosen if arguments.device in (None, group.device)]
    if arguments.list:
        for group in chosen:
            print(group.name, *(f"  {name}" for name in group.case_names(arguments.quick)), sep="\n")
        return 0
    machine = describe(arguments.commit)
    results = measure(chosen, arguments, machine)
    print(report.machine_line(machine, results))
    if arguments.plots:
        stem = arguments.json.stem if arguments.json else "latest"
        plots.draw({"groups": results}, stem, arguments.plots)
    failed = report.failures(results)
    for failure in failed:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
