"""Environment variables of the C++ code: what is logged at which level, and which host library is taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from capi import DTYPES, FORWARD, Api
from problem import BASE, Problem
api = Api(sys.argv[1])
for attributes in (BASE, BASE | {"dtype": DTYPES["float64"]}, BASE | {"dtype": DTYPES["float64"], "batch_size": 3}):
    handle = api.config(**attributes)
    status, _ = api.backend(handle)
    if status:
        print(status, api.error())
        break
    Problem(attributes).run(api, handle, FORWARD)
    api.backend(handle)
"""

# Two segments of 4 queries and 6 keys, under a promise that holds and one that does not.
PROMISES = """
import sys
sys.path.insert(0, sys.argv[2])
from capi import BACKWARD, FORWARD, Api
from problem import BASE_THD, Problem
api = Api(sys.argv[1])
for promise in (6, 5):
    attributes = BASE_THD | {"max_segment_seqlen_q": 4, "max_segment_seqlen_kv": promise}
    handle = api.config(**attributes)
    for direction in (FORWARD, BACKWARD):
        print(Problem(attributes).run(api, handle, direction), api.error())
"""

FAIL_READ_BACK = """
from fake import Fake
from pathlib import Path
Fake(Path(sys.argv[1]).with_name("libportattn_host_generic.so")).fail("read_back")
"""


def run(folder: Path, program: str = PROGRAM, **environment: str) -> tuple[str, list[str]]:
    """stdout, and the lines of stderr, of a process that by default uses three configs, the last two by a fallback."""
    unwanted = ("NVTE_LOG_FUSED_ATTN_CONFIG", "PORTATTN_DEBUG")
    clean = {key: value for key, value in os.environ.items() if key not in unwanted}
    command = [sys.executable, "-c", program, str(folder / "libportattn.so"), str(HERE)]
    result = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return result.stdout, result.stderr.splitlines()


@pytest.mark.parametrize(("level", "chosen", "fallbacks", "calls"), [("0", 0, 0, 0), ("1", 0, 1, 0), ("2", 1, 2, 0)])
def test_log_levels(fake_folder: Path, level: str, chosen: int, fallbacks: int, calls: int) -> None:
    _, lines = run(fake_folder, PORTATTN_HOST_ISA="generic", NVTE_LOG_FUSED_ATTN_CONFIG=level)
    assert sum("fused_varlen chosen. Config: dtype=fp32" in line for line in lines) == chosen
    told = [line for line in lines if line.startswith("portattn: unfused chosen as a fallback: fused_varlen refused: ")]
    assert len(told) == fallbacks
    assert len(lines) == chosen + fallbacks + calls
    assert all("dtype=fp64 batch_size=" in line for line in told), "the config is told with the fallback"


def test_every_call_is_logged_at_level_3(fake_folder: Path) -> None:
    _, lines = run(fake_folder, PORTATTN_HOST_ISA="generic", NVTE_LOG_FUSED_ATTN_CONFIG="3")
    assert sum("forward by" in line for line in lines) == 3


def test_fallbacks_are_logged_by_default(fake_folder: Path) -> None:
    _, lines = run(fake_folder, PORTATTN_HOST_ISA="generic")
    assert len(lines) == 1


def test_a_level_that_does_not_exist_is_reported(fake_folder: Path) -> None:
    _, lines = run(fake_folder, PORTATTN_HOST_ISA="generic", NVTE_LOG_FUSED_ATTN_CONFIG="loud")
    assert "is 'loud'; allowed are 0, 1, 2 and 3; using 1" in lines[0]


def test_debug_mode_tells_of_a_broken_promise(fake_folder: Path) -> None:
    output, lines = run(fake_folder, PROMISES, PORTATTN_HOST_ISA="generic", PORTATTN_DEBUG="1")
    assert output.split() == ["0"] * 4
    assert lines == [
        "portattn: segment 0 has cu_seqlens_kv length 6, but max_segment_seqlen_kv promises up to 5: it is computed "
        "right, and slowly; raise the promise"
    ]


def test_promises_are_not_looked_at_by_default(fake_folder: Path) -> None:
    _, lines = run(fake_folder, PROMISES, PORTATTN_HOST_ISA="generic")
    assert not lines


def test_a_look_that_fails_is_an_error(fake_folder: Path) -> None:
    failing = PROMISES.replace("for promise", f"{FAIL_READ_BACK}\nfor promise")
    output, _ = run(fake_folder, failing, PORTATTN_HOST_ISA="generic", PORTATTN_DEBUG="1")
    assert output.startswith("4 launching a look at the lengths of small_seq on host device 0 failed: told to fail")


def test_a_switch_that_does_not_exist_is_reported(fake_folder: Path) -> None:
    _, lines = run(fake_folder, PROMISES, PORTATTN_HOST_ISA="generic", PORTATTN_DEBUG="yes")
    assert lines == ["portattn: PORTATTN_DEBUG is 'yes'; allowed are 0 and 1; using 0"]


@pytest.mark.parametrize(
    ("isa", "reason"), [("sse9", "PORTATTN_HOST_ISA is 'sse9'; this CPU runs:"), ("avx2", "libportattn_host_avx2.so")]
)
def test_a_host_library_that_is_not_there_is_a_reason(fake_folder: Path, isa: str, reason: str) -> None:
    output, _ = run(fake_folder, PORTATTN_HOST_ISA=isa)
    assert output.startswith("5 no device library for host: ") and reason in output.replace("is 'avx2'", isa)
