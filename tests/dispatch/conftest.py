"""The option that writes the golden files anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-dispatch", action="store_true", help="write golden.txt and docs/support_matrix.md anew")
