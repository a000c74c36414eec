"""Draws one picture for each group of a results file: bars of useful FLOP/s, one panel for each model and direction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .cases import DIRECTIONS
from .implementations import LABELS, OURS

COLOURS = ("#1f6f8b", "#e08e45", "#7a9e4f", "#8c6bb1", "#b5524a")


def draw(result: dict[str, Any], stem: str, directory: Path) -> list[Path]:
    """Writes performance_<stem>_<group>.png for every group with speeds; returns what was written."""
    import matplotlib

    matplotlib.use("Agg")
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for group in result["groups"]:
        draw_group = {"attention": _draw_group, "small_seq": _draw_shares}.get(group["routine"])
        if draw_group is not None and group.get("rows"):
            path = directory / f"performance_{stem}_{group['name']}.png"
            draw_group(group, path)
            written.append(path)
    return written


def _draw_group(group: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(row["model"] for row in group["rows"]))
    directions = [d for d in DIRECTIONS if any(row["direction"] == d for row in group["rows"])]
    columns = max(sum(row["model"] == m and row["direction"] == directions[0] for row in group["rows"]) for m in models)
    size = (len(directions) * max(3.6, 0.75 * columns + 1.2), 2.9 * len(models) + 0.5)
    figure, axes = plt.subplots(len(models), len(directions), figsize=size, squeeze=False, layout="constrained")
    for row_of_axes, model in zip(axes, models, strict=True):
        for axis, direction in zip(row_of_axes, directions, strict=True):
            rows = [row for row in group["rows"] if row["model"] == model and row["direction"] == direction]
            _draw_panel(axis, group, rows, f"{model}, {direction}")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    figure.suptitle(group["title"], fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _draw_shares(group: dict[str, Any], path: Path) -> None:
    """Bytes that must move over time, as a share of the copy bandwidth: one panel for each direction."""
    import matplotlib.pyplot as plt

    names = [OURS, *group["peers"]]
    figure, axes = plt.subplots(1, len(DIRECTIONS), figsize=(13, 4.2), squeeze=False, layout="constrained")
    for axis, direction in zip(axes[0], DIRECTIONS, strict=True):
        rows = [row for row in group["rows"] if row["direction"] == direction]
        width = 0.8 / len(names)
        for index, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
            heights = [100 * row["implementations"].get(name, {}).get("share", 0.0) for row in rows]
            places = [x + width * (index - (len(names) - 1) / 2) for x in range(len(rows))]
            axis.bar(places, heights, width, label=LABELS[name], color=colour)
        axis.set_xticks(range(len(rows)), [row["model"].replace(", ", "\n") for row in rows], fontsize=6.5)
        axis.set_ylabel("% of copy bandwidth", fontsize=8)
        axis.set_ylim(0, 100)
        axis.set_title(direction, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    figure.suptitle(group["title"], fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _draw_panel(axis: Any, group: dict[str, Any], rows: list[dict[str, Any]], title: str) -> None:
    names = [OURS, *group["peers"]]
    factor, unit = (1.0, "TFLOP/s") if group["device"] == "cuda" else (1e3, "GFLOP/s")
    width = 0.8 / len(names)
    for index, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        heights = [factor * row["implementations"].get(name, {}).get("tflops", 0.0) for row in rows]
        places = [x + width * (index - (len(names) - 1) / 2) for x in range(len(rows))]
        axis.bar(places, heights, width, label=LABELS[name], color=colour)
    axis.set_xticks(range(len(rows)), [f"{row['shape']}\n{row['mask']}" for row in rows], fontsize=6.5)
    axis.set_ylabel(unit, fontsize=8)
    axis.set_title(title, fontsize=9)
    axis.tick_params(axis="y", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
