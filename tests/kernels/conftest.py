"""Where kernel tests run, and how one printed case is repeated."""

from __future__ import annotations

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("portattn")
    group.addoption("--case", help="run only this case of test_random.py, as a failure printed it")
    group.addoption("--forward", help="backend of --case's forward; without it the library chooses")
    group.addoption("--backward", help="backend of --case's backward")
    group.addoption("--cases", type=int, default=900, help="how many cases test_random.py draws for fused_varlen")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.L1)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    return request.param
