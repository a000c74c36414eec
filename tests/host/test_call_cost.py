"""What a call costs on the host before its launches: arguments checked, AttnParams filled."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import native

LIMIT_NS = 2000


@pytest.mark.L3
def test_forward_call_is_cheap(tmp_path: Path) -> None:
    flags = ["-O3"]
    native.build_core(tmp_path, flags)
    plugin = native.build_fake_plugin(tmp_path, "host", flags)
    program = tmp_path / "call_cost"
    source = native.SOURCES / "call_cost.cpp"
    link = [f"-L{tmp_path}", "-lportattn", f"-Wl,-rpath,{tmp_path}", "-ldl"]
    native.run([native.compiler("g++", "c++"), "-std=c++17", *flags, *native.INCLUDES, source, *link, "-o", program])
    environment = os.environ | {"PORTATTN_HOST_ISA": "generic"}
    cost = float(subprocess.run([program, plugin], env=environment, check=True, capture_output=True, text=True).stdout)
    print(f"{cost:.0f} ns a call")
    assert cost < LIMIT_NS
