"""Every variant of the CPU library that was built and that this CPU runs, not only the one that is picked at load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from portattn.common.library import CORE_LIBRARY, library_path

FILES = Path(__file__).resolve().parent
SELECTION = "-9 or -40 or hostile_starts or head_dims_between"  # a tenth of the random cases, and some edges
ISAS = ("generic", "avx2", "avx512")


def cpu_runs(isa: str) -> bool:
    flag = {"generic": "", "avx2": "avx2", "avx512": "avx512bw"}[isa]
    cpuinfo = Path("/proc/cpuinfo")
    return not flag or (cpuinfo.exists() and flag in cpuinfo.read_text().split())


@pytest.mark.parametrize("isa", ISAS)
def test_variant(isa: str) -> None:
    if not library_path(CORE_LIBRARY).with_name(f"libportattn_host_{isa}.so").exists():
        pytest.skip(f"the {isa} variant was not built")
    if not cpu_runs(isa):
        pytest.skip(f"this CPU has no {isa}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SELECTION]
    command += [str(FILES / "test_random.py"), str(FILES / "test_edges.py")]
    environment = os.environ | {"PORTATTN_HOST_ISA": isa}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:]
