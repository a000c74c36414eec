"""Random cases against float64, forward and backward, on every backend and across backends."""

from __future__ import annotations

import pytest

from portattn.testing.random_config import Case, random_case
from portattn.testing.runner import check_case

# Which backend runs the forward and which the backward; `unfused` alone also gets what only it takes.
PAIRS = (("fused_varlen", "fused_varlen"), ("fused_varlen", "unfused"), ("unfused", "fused_varlen"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """--case replaces the random cases by the given one."""
    given = metafunc.config.getoption("--case", None)
    if "case" not in metafunc.fixturenames:
        return
    if given:
        backends = (metafunc.config.getoption("--forward"), metafunc.config.getoption("--backward"))
        metafunc.parametrize(("case", "backends"), [(Case.parse(given), backends)])
    else:
        cases = list(_random_cases(metafunc.config.getoption("--cases", 900)))
        metafunc.parametrize(("case", "backends"), cases, ids=lambda value: None)


def _random_cases(count: int):
    """`count` of fused_varlen, also with unfused in the other direction, and 500 of unfused."""
    for seed in range(count):
        backends = PAIRS[0] if seed % 3 else PAIRS[1 + seed // 3 % 2]
        yield pytest.param(random_case(seed), backends, id=f"{'-'.join(backends)}-{seed}")
    for seed in range(1000, 1500):
        dtypes = ("float32", "float16", "bfloat16", "float64")
        case = random_case(seed, unfused=True, dtypes=dtypes)
        yield pytest.param(case, ("unfused", "unfused"), id=f"unfused-{seed}")


def test_random_case(case: Case, backends: tuple[str, str], device: str) -> None:
    check_case(case, device, *backends)
