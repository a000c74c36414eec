"""Which backend serves which config, and why: compared with golden.txt and docs/support_matrix.md.

python tests/dispatch/test_dispatch.py --update     writes both anew; read the difference before you commit it
"""

from __future__ import annotations

from pathlib import Path

import pytest
from backend_table import BASELINE, ROWS, BackendTable, Case
from cases import FEATURES, golden_cases

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden.txt")
MATRIX = ROOT / "docs" / "support_matrix.md"

GOLDEN_HEAD = """\
# What each config gets: changes to the baseline -> backend, and what the rows before it said.
# Written by `pytest tests/dispatch --update-dispatch`. Baseline: {baseline}
"""

MATRIX_HEAD = """\
# Support matrix

Printed from the backend table by `pytest tests/dispatch --update-dispatch`; a test fails when it is out of date. Each
line asks every backend by name for one change to an ordinary config
(`{baseline}`).
**yes** means that the backend takes it, on every device that has its kernels; a number leads to the reason why not.
Head dims above 256 have kernels in `fused_varlen` on sm_90 only, in 16 bits, without bias, softcap, dropout and
`deterministic`. The table is tried from left to right, and `portattn.pytorch.explain` gives the reasons for a config of
yours.
"""


def text_of(case: Case) -> str:
    return " ".join(f"{name}={value}" for name, value in case.items()) or "baseline"


def golden_text(table: BackendTable) -> str:
    lines = []
    for case in golden_cases():
        answers = table.ask(case)
        chosen = next((name for name, answer in answers.items() if answer == "chosen"), "none")
        reasons = [f"{name} {answer}" for name, answer in answers.items() if answer.startswith("refused")]
        lines.append(" | ".join([f"{text_of(case)} -> {chosen}", *reasons]))
    return GOLDEN_HEAD.format(baseline=text_of(BASELINE)) + "\n".join(lines) + "\n"


def matrix_text(table: BackendTable) -> str:
    reasons: list[str] = []
    lines = [MATRIX_HEAD.format(baseline=text_of(BASELINE)), f"| | {' | '.join(ROWS)} |", "|---" * 5 + "|"]
    for section, features in FEATURES.items():
        lines.append(f"| **{section}** | | | | |")
        for label, changes in features:
            cells = [cell(table, row, changes, reasons) for row in ROWS]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))]
    return "\n".join(lines) + "\n"


def cell(table: BackendTable, row: str, changes: Case, reasons: list[str]) -> str:
    answer = table.ask(changes | {"backend": row})[row]
    if answer == "chosen":
        return "yes"
    reason = answer.removeprefix("refused: ")
    if reason not in reasons:
        reasons.append(reason)
    return f"({reasons.index(reason) + 1})"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> BackendTable:
    return BackendTable(tmp_path_factory.mktemp("dispatch"))


def compare(text: str, path: Path, config: pytest.Config) -> None:
    if config.getoption("--update-dispatch"):
        path.write_text(text)
    assert text == path.read_text(), __doc__


def test_every_config_gets_the_backend_of_the_golden_file(table: BackendTable, pytestconfig: pytest.Config) -> None:
    compare(golden_text(table), GOLDEN, pytestconfig)


def test_support_matrix_is_up_to_date(table: BackendTable, pytestconfig: pytest.Config) -> None:
    compare(matrix_text(table), MATRIX, pytestconfig)
