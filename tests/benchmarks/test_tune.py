"""The tile size sweep: what it tries, and that the tuning files that it writes are those that the generator reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tune

import generate

NUMBERS = {"block_kv": 16, "min_blocks": 3}


@pytest.fixture(params=sorted(tune.TARGETS))
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tuning(arch: str) -> tune.Tuning:
    return generate.read_toml(tune.TUNING / f"{arch}.toml")


def generated(arch: str, tuning: tune.Tuning, folder: Path) -> dict[str, str]:
    """File name -> text of an arch's kernels under a tuning."""
    shutil.copytree(tune.TUNING, folder / "tuning")
    (folder / "tuning" / f"{arch}.toml").write_text(tune.tuning_text(tuning))
    command = [sys.executable, generate.__file__, "--arch", arch, "--tuning", folder / "tuning", "--out", folder]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return {path.name: path.read_text() for path in folder.glob("fmha_*.cu")}


def test_every_combination_is_tried() -> None:
    tries = tune.parse_tries(["block_q=64,128", "warps_dq=2x4"])
    assert list(tune.candidates(tries)) == [
        {"block_q": 64, "warps_dq": [2, 4]},
        {"block_q": 128, "warps_dq": [2, 4]},
    ]


def test_a_written_tuning_is_read_as_it_was(arch: str, tuning: tune.Tuning, tmp_path: Path) -> None:
    path = tmp_path / f"{arch}.toml"
    path.write_text(tune.tuning_text(tuning))
    assert generate.read_toml(path) == tuning


def test_kernel_and_plain_kernel_change_together(arch: str, tuning: tune.Tuning, tmp_path: Path) -> None:
    before = generated(arch, tuning, tmp_path / "before")
    changed = tune.with_numbers(tuning, "fwd", "16-bit", "64x64", NUMBERS)
    after = generated(arch, changed, tmp_path / "after")
    differing = {name for name in before if before[name] != after[name]} - {"fmha_table.cu"}
    kinds = [kind for kind in ("fwd", "fwd_plain") if "64x64" in tuning.get(kind, {}).get("16-bit", {})]
    assert differing == {f"fmha_{kind}_hd64x64_{dtype}_{arch}.cu" for kind in kinds for dtype in ("bf16", "fp16")}


def test_unknown_numbers_and_head_dims_are_refused(tuning: tune.Tuning) -> None:
    with pytest.raises(SystemExit, match="has no stages; it has block_q"):
        tune.with_numbers(tuning, "fwd", "16-bit", "64x64", {"stages": 2})
    with pytest.raises(SystemExit, match="has no 64x65 in"):
        tune.with_numbers(tuning, "fwd", "16-bit", "64x65", NUMBERS)
