"""Results as Markdown: the same text on the terminal and in docs/performance.md, made from the JSON alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .implementations import LABELS, OURS

BLOCK = re.compile(r"(<!-- bench: begin -->\n).*?(<!-- bench: end -->)", re.DOTALL)

Row = dict[str, Any]


def group_report(group: dict[str, Any]) -> str:
    """Table of one group, the summary against its target, and what could not run."""
    if group.get("skipped"):
        return f"Not run: {group['skipped']}."
    if not group["rows"]:
        return group.get("error", "No case selected.")
    tables = {"host_overhead": _overhead_table, "jax": _jax_table, "small_seq": _small_seq_table}
    parts = [tables.get(group["routine"], _attention_table)(group)]
    parts += [_summary(group)] if group.get("target") else []
    skipped = sorted({reason for row in group["rows"] for reason in row["skipped"].values()})
    parts += ["\n".join(f"- {reason}" for reason in skipped)] if skipped else []
    parts += [group["error"]] if group.get("error") else []
    return "\n\n".join(part for part in parts if part)


def failures(groups: Iterable[dict[str, Any]]) -> list[str]:
    """Cases in which portattn did not run or was wrong; a missed speed target is not a failure."""
    found = []
    for group in groups:
        found += [f"{group['name']}: {group['error']}"] if group.get("error") else []
        for row in group.get("rows", []):
            name = f"{group['name']}: {row['case']} {row.get('direction', '')}".strip()
            if OURS in row["skipped"]:
                found.append(f"{name}: {row['skipped'][OURS]}")
            elif not _is_right(row, OURS):
                check = row["implementations"][OURS]["refcheck"]
                found.append(f"{name}: wrong: {check['tensor']} off by {check['worst']:.3g} x tolerance")
    return found


def machine_line(machine: dict[str, Any], groups: list[dict[str, Any]]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    cpu = f"{machine['cpu']}, {machine['cpu_threads']} threads"
    on = f"{machine['gpu']} ({cpu})" if machine["gpu"] else cpu
    return f"{on}; {versions}; commit {machine['commit']}; {machine['date']}.{_clock_note(groups)}"


def update_docs(page: Path, results: list[Path], pictures: dict[str, list[str]]) -> None:
    """Rewrites the marked block of the page: one section for each results file, with the pictures drawn from it."""
    text = page.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise ValueError(f"{page} lacks the lines <!-- bench: begin --> and <!-- bench: end -->; add them")
    sections = [_docs_section(json.loads(path.read_text(encoding="utf-8")), pictures[path.stem]) for path in results]
    body = "\n".join(sections)
    page.write_text(BLOCK.sub(lambda match: match[1] + body + match[2], text), encoding="utf-8")


def _docs_section(result: dict[str, Any], pictures: list[str]) -> str:
    machine = result["machine"]
    groups = [group for group in result["groups"] if group.get("rows")]
    lines = [f"## {machine['gpu'] or machine['cpu']}", machine_line(machine, groups)]
    for group in groups:
        lines += [f"### {group['title']}", group_report(group)]
        own = [picture for picture in pictures if picture.endswith(f"_{group['name']}.png")]
        lines += [f"![{group['title']}]({picture})" for picture in own]
    return "\n\n".join(lines) + "\n"


def _attention_table(group: dict[str, Any]) -> str:
    unit, factor = ("TFLOP/s", 1.0) if group["device"] == "cuda" else ("GFLOP/s", 1e3)
    names = [OURS, *(peer for peer in group["peers"] if any(peer in row["implementations"] for row in group["rows"]))]
    target = group.get("target")
    header = ["model", "heads", "shape", "mask", "pass", *(f"{LABELS[name]}, {unit}" for name in names)]
    header += [f"÷ {LABELS[target['peer']]}", "target"] if target else []
    lines = []
    for row in group["rows"]:
        cells = [row[key] for key in ("model", "heads", "shape", "mask", "direction")]
        cells += [_cell(row, name, factor) for name in names]
        lines.append(cells + (_ratio_cells(row) if target else []))
    return _markdown(header, lines, left_columns=5)


def _overhead_table(group: dict[str, Any]) -> str:
    names = [OURS, *group["peers"]]
    lines = []
    for row in group["rows"]:
        found = row["implementations"]
        cells = [f"{found[n]['median_us']:.1f} ±{found[n]['spread']:.1%}" if n in found else "-" for n in names]
        met = f" {_met(found[OURS]['median_us'] <= row['max_us'])}" if OURS in found else ""
        lines.append([row["model"], *cells, f"≤ {row['max_us']}{met}"])
    return _markdown(["call", *(f"{LABELS[n]}, µs" for n in names), "target, µs"], lines, left_columns=1)


def _jax_table(group: dict[str, Any]) -> str:
    """Times, and the speed against the target's peer."""
    names = [OURS, *(peer for peer in group["peers"] if any(peer in row["implementations"] for row in group["rows"]))]
    target = LABELS[group["target"]["peer"]]
    lines = []
    for row in group["rows"]:
        cells = [row["case"], row["direction"], *(_time_cell(row, name) for name in names)]
        lines.append(cells + _ratio_cells(row))
    header = ["case", "pass", *(f"{LABELS[name]}, ms" for name in names), f"÷ {target}", "target"]
    return _markdown(header, lines, left_columns=2)


def _small_seq_table(group: dict[str, Any]) -> str:
    """Times and shares of the copy bandwidth, and the speed against the fastest peer."""
    names = [OURS, *(peer for peer in group["peers"] if any(peer in row["implementations"] for row in group["rows"]))]
    header = ["segments", "pass", "MB", *(f"{LABELS[name]}, ms" for name in names)]
    header += ["of copy bandwidth", "target", "÷ fastest peer", "target"]
    lines = []
    for row in group["rows"]:
        cells = [row["model"], row["direction"], f"{row['bytes'] / 1e6:.0f}"]
        cells += [_share_cell(row, name) for name in names]
        share = row["implementations"].get(OURS, {}).get("share")
        cells += ["-" if share is None else f"{100 * share:.0f} % of {row['copy_gbs']:.0f} GB/s"]
        cells += ["-" if share is None else f"≥ {100 * row['share_target']:.0f} % {_met(share >= row['share_target'])}"]
        ratio, wanted = row.get("ratio"), row["ratio_target"]
        cells += ["-", "-"] if ratio is None else [_ratio_text(ratio), f"≥ {wanted} {_met(ratio >= wanted)}"]
        lines.append(cells)
    return _markdown(header, lines, left_columns=2)


def _time_cell(row: Row, name: str) -> str:
    if name not in row["implementations"]:
        return "-"
    found = row["implementations"][name]
    if not _is_right(row, name):
        return f"wrong: {found['refcheck']['tensor']} off by {found['refcheck']['worst']:.3g} x tolerance"
    return f"{_three_digits(found['median_ms'])} ±{found['spread']:.1%}"


def _share_cell(row: Row, name: str) -> str:
    if name not in row["implementations"]:
        return "-"
    found = row["implementations"][name]
    if not _is_right(row, name):
        return f"wrong: {found['refcheck']['tensor']} off by {found['refcheck']['worst']:.3g} x tolerance"
    return f"{_three_digits(found['median_ms'])} ({100 * found['share']:.0f} %)"


def _cell(row: Row, name: str, factor: float) -> str:
    if name not in row["implementations"]:
        return "-"
    found = row["implementations"][name]
    if not _is_right(row, name):
        return f"wrong: {found['refcheck']['tensor']} off by {found['refcheck']['worst']:.3g} x tolerance"
    return f"{found['tflops'] * factor:.0f} ({_three_digits(found['median_ms'])} ms ±{found['spread']:.1%})"


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _ratio_cells(row: Row) -> list[str]:
    target = row.get("target")
    wanted = f"≥ {target:.2f}" if target else "-"
    if not _counts(row):
        return ["-", wanted]
    return [_ratio_text(row["ratio"]), f"{wanted} {_met(_meets(row))}" if target else wanted]


def _summary(group: dict[str, Any]) -> str:
    """One line for each direction: how many cases reach the target, the mean and the lowest ratio."""
    lines = []
    for direction in ("forward", "backward"):
        rows = [row for row in group["rows"] if row["direction"] == direction and _counts(row) and row["target"]]
        if not rows:
            continue
        lowest = min(rows, key=lambda row: row["ratio"])
        mean = math.exp(sum(math.log(row["ratio"]) for row in rows) / len(rows))
        met = sum(map(_meets, rows))
        lines.append(
            f"{direction.capitalize()}: {met} of {len(rows)} reach {rows[0]['target']:.2f} x "
            f"{LABELS[group['target']['peer']]}; geometric mean {_ratio_text(mean)}, "
            f"lowest {_ratio_text(lowest['ratio'])} ({lowest['case']})."
        )
    return "\n".join(lines)


def _counts(row: Row) -> bool:
    return "ratio" in row and _is_right(row, OURS)


def _meets(row: Row) -> bool:
    return row["ratio"] >= row["target"]


def _ratio_text(ratio: float) -> str:
    """Rounded down, so that a missed target never looks met."""
    return f"{math.floor(100 * ratio) / 100:.2f}"


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _is_right(row: Row, name: str) -> bool:
    check = row["implementations"].get(name, {}).get("refcheck")
    return check is None or check["passed"]


def _clock_note(groups: list[dict[str, Any]]) -> str:
    readings = [row["clocks"] for group in groups for row in group.get("rows", []) if row.get("clocks")]
    clocks = sorted({_number(r.get("clocks.sm", "")) for r in readings} - {None})
    watts = sorted({_number(r.get("power.draw", "")) for r in readings} - {None})
    if not clocks or not watts:
        return ""
    return f" While measuring: SM clock {clocks[0]:.0f} to {clocks[-1]:.0f} MHz, power up to {watts[-1]:.0f} W."


def _number(reading: str) -> float | None:
    match = re.match(r"[\d.]+", reading)
    return float(match[0]) if match else None


def _markdown(header: list[str], lines: list[list[str]], left_columns: int) -> str:
    """A table whose first columns are names, flush left, and whose others are figures, flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *lines, strict=True)]
    flush = [str.ljust if index < left_columns else str.rjust for index in range(len(header))]
    rule = ["-" * w if index < left_columns else "-" * (w - 1) + ":" for index, w in enumerate(widths)]
    padded = [[f(cell, w) for f, cell, w in zip(flush, line, widths, strict=True)] for line in [header, rule, *lines]]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
