"""C++ proofs on the headers that device code uses: lane maps, shared memory layouts, scalar maths, turns, row stats,
Philox."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import programs
from portattn.testing.dropout import dropout_factor

SOURCES = Path(__file__).resolve().parent / "cpp"


def compile_and_run(name: str, folder: Path, *flags: str) -> str:
    return programs.run(programs.build(SOURCES / f"{name}.cpp", folder, "-O1", *flags))


def test_lane_maps_and_shared_layouts(tmp_path: Path) -> None:
    compile_and_run("lane_maps_test", tmp_path)


@pytest.mark.parametrize("defines", [(), ("-D__gfx950__",)], ids=["gfx942", "gfx950"])
def test_lane_maps_and_shared_layouts_of_amd(defines: tuple[str, ...], tmp_path: Path) -> None:
    compile_and_run("lane_maps_gfx942_test", tmp_path, *defines)


def test_scalar_maths(tmp_path: Path) -> None:
    compile_and_run("math_test", tmp_path)


def test_turns_of_key_tiles(tmp_path: Path) -> None:
    compile_and_run("key_turns_test", tmp_path)


def test_row_stats(tmp_path: Path) -> None:
    compile_and_run("row_stats_test", tmp_path, "-fopenmp")


def test_philox_header_and_its_python_replica(tmp_path: Path) -> None:
    lines = compile_and_run("philox_test", tmp_path).split()
    kept = torch.tensor([[int(c) for c in line] for line in lines], dtype=torch.bool)
    replica = dropout_factor(0.3, seed=0x0123456789ABCDEF, offset=0x100000005, stream=2 * 3 + 1, len_q=40, len_kv=70)
    assert torch.equal(kept, replica != 0)
