"""Code objects and reports: what is read from an object, damaged objects, counters, traces, orders of execution."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import gfx942_sim
import hip_tools
from checks import same


def object_file(compiled, tmp_path_factory, name: str) -> Path:
    compiled(name)
    return sorted(tmp_path_factory.getbasetemp().glob(f"kernels*/{name}_O3_gfx942.co"))[-1]


def test_kernel_information(compiled):
    info = compiled("faults")["rotate"].info
    assert (info.static_lds_bytes, info.max_threads, info.explicit_kernarg_bytes) == (1024, 256, 12)
    assert 0 < info.vgprs <= 512 and info.vgpr_spills == 0
    kinds = [info.arguments[i].kind for i in range(2)]
    assert kinds == [b"global_buffer", b"by_value"]
    assert "rotate" in compiled("faults").names()


def test_damaged_objects_are_refused(compiled, tmp_path_factory):
    """No prefix and no flipped byte of an object may crash the loader or the decoder."""
    whole = object_file(compiled, tmp_path_factory, "control").read_bytes()
    for content in (b"", b"\x7fELF", b"not an object" * 100):
        with pytest.raises(gfx942_sim.SimulationError, match="invalid object"):
            gfx942_sim.load(content)
    rng = np.random.default_rng(1)
    refused = 0
    for number in range(300):
        content = bytearray(whole[: rng.integers(len(whole))] if number % 2 else whole)
        for place in rng.integers(0, min(len(content), 2048) or 1, 4):
            if content:
                content[place] = rng.integers(256)
        try:
            code = gfx942_sim.load(bytes(content))
            code["no_effect"]((1,), (64,), np.zeros(64, np.int64), max_instructions=10000)
        except (gfx942_sim.SimulationError, TypeError):
            refused += 1
    assert refused > 100


def test_objects_for_other_machines_are_refused(compiled, tmp_path_factory):
    content = bytearray(object_file(compiled, tmp_path_factory, "control").read_bytes())
    content[48] = 0x30  # EF_AMDGPU_MACH of gfx908
    with pytest.raises(gfx942_sim.SimulationError, match=r"machine 0x30; this simulator runs gfx942 .* and gfx950"):
        gfx942_sim.load(bytes(content))


def test_counters_and_trace_agree_with_the_disassembly(compiled, tmp_path_factory):
    """A kernel without branches executes each of its instructions once a wave, in the order of the disassembly."""
    kernel = compiled("cross_lane")["permute"]
    path = object_file(compiled, tmp_path_factory, "cross_lane")
    events: list[gfx942_sim.Event] = []
    report = kernel((2,), (64,), np.zeros((7, 64), np.int32), trace=events.append)
    assert report.blocks == report.waves == 2
    assert report.instructions == len(events) == sum(report.instructions_of_class.values())
    printed = subprocess.run(
        [hip_tools.toolchain().tool("llvm-objdump"), "-d", "--disassemble-symbols=permute", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listing = [(int(pc, 16), text.strip()) for text, pc in re.findall(r"^\t(.*?)\s+// ([0-9A-F]{12}):", printed, re.M)]
    first = [(event.pc, event.text) for event in events if event.block == (0, 0, 0)]
    assert [text for _, text in first] == [text for _, text in listing[: len(first)]]
    assert [pc for pc, _ in first] == [pc for pc, _ in listing[: len(first)]]
    assert report.instructions_of_class["lds_permute"] == 2 * sum("ds_" in text for _, text in first)
    assert all(event.exec == (1 << 64) - 1 and event.wave == 0 for event in events)


def test_results_do_not_depend_on_threads_and_order(compiled):
    x = np.random.default_rng(2).integers(0, 1 << 30, 64).astype(np.int32)
    results = []
    for options in ({"threads": 1}, {"threads": 3}, {"seed": 1}, {"seed": 99, "threads": 2}):
        out = np.zeros(512, np.int32)
        compiled("memory")["dynamic_lds"]((2,), (256,), out, int(x[0]) % 256, dynamic_lds=1024, **options)
        results.append(out)
    for result in results[1:]:
        same(result, results[0])
