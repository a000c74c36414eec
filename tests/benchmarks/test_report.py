"""Tables and the page made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from routines.report import failures, group_report, update_docs


def make_row(ratio: float, passed: bool = True) -> dict[str, Any]:
    check = {"passed": passed, "worst": 0.5 if passed else 3.0, "tensor": "dk"}
    ours = {"median_ms": 2.0, "spread": 0.01, "tflops": 1.5, "samples_ms": [2.0], "refcheck": check}
    return {
        "case": "m/s/full", "model": "m", "shape": "s", "heads": "1/1", "mask": "full", "direction": "forward",
        "clocks": None, "skipped": {"b": "b is not here"}, "implementations": {"portattn": ours, "sdpa": ours},
        "ratio": ratio, "target": 0.9,
    }  # fmt: skip


def make_group(*rows: dict[str, Any]) -> dict[str, Any]:
    target = {"peer": "sdpa", "ratio": 0.9}
    settings = {"name": "g", "title": "Group", "device": "cuda", "routine": "attention", "peers": ["sdpa"]}
    return {**settings, "target": target, "rows": list(rows)}


def test_a_target_missed_by_a_hair_is_missed() -> None:
    text = group_report(make_group(make_row(0.8999), make_row(1.0)))
    assert "| 0.89 | ≥ 0.90 missed |" in " ".join(text.split())
    assert "Forward: 1 of 2 reach 0.90 x torch SDPA; geometric mean 0.94, lowest 0.89 (m/s/full)." in text
    assert "- b is not here" in text


def test_a_wrong_result_has_no_speed() -> None:
    group = make_group(make_row(2.0, passed=False))
    text = group_report(group)
    assert "wrong: dk off by 3 x tolerance" in text and "2.00" not in text
    assert failures([group]) == ["g: m/s/full forward: wrong: dk off by 3 x tolerance"]


def test_a_group_that_stopped_keeps_its_rows_and_counts_as_failed() -> None:
    group = make_group(make_row(1.0)) | {"error": "stopped by RuntimeError: out of memory"}
    assert group_report(group).endswith("\n\nstopped by RuntimeError: out of memory")
    assert failures([group]) == ["g: stopped by RuntimeError: out of memory"]


def test_the_page_shows_the_printed_table(tmp_path: Path) -> None:
    group = make_group(make_row(1.0))
    machine = {"gpu": "GPU", "cpu": "CPU", "cpu_threads": 2, "versions": {"torch": "2"}, "commit": "abc", "date": "now"}
    results, page = tmp_path / "gpu.json", tmp_path / "page.md"
    results.write_text(json.dumps({"machine": machine, "groups": [group]}))
    page.write_text("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    update_docs(page, [results], {"gpu": ["images/performance_gpu_g.png"]})
    text = page.read_text()
    assert group_report(group) in text and "![Group](images/performance_gpu_g.png)" in text
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    page.write_text("no block")
    with pytest.raises(ValueError, match="lacks the lines"):
        update_docs(page, [results], {"gpu": []})
