"""Test levels: a test without a level is L0 (no GPU), which is what plain `pytest` selects."""

from __future__ import annotations

import pytest

LEVELS = ("L0", "L1", "L2", "L3")


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here and not in the tests' folders: pytest reads options from the conftest files of its arguments only.
    parser.addoption("--update-dispatch", action="store_true", help="write golden.txt and docs/support_matrix.md anew")
    parser.addoption("--update-golden", action="store_true", help="write the golden files of the tests that run anew")


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.get_closest_marker(level) for level in LEVELS):
            item.add_marker(pytest.mark.L0)
