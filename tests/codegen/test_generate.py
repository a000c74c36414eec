"""The generator of kernel instances: what it writes, that it writes no more than needed, and what it refuses."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest

import generate

CODEGEN = Path(generate.__file__).resolve().parent
KERNELS = generate.read_toml(CODEGEN / "kernels.toml")
TUNING = {path.stem: generate.read_toml(path) for path in (CODEGEN / "tuning").glob("*.toml")}
ARCHS = sorted(TUNING)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_instance_has_its_kernels_and_one_row(arch: str) -> None:
    files = generate.generate(KERNELS, TUNING, arch)
    rows = re.findall(r'\{"(\w+)", DType', files["fmha_table.cu"])
    assert rows == [
        f"hd{qk}x{v}_{dtype}_{each}"
        for each in generate.archs_of(arch)
        for dtype in KERNELS["fmha"]["dtypes"]
        for qk, v in sorted(KERNELS["fmha"]["head_dims"])
        if f"{dtype} {qk}x{v}" not in TUNING[each].get("left_out", [])
    ]
    for name in rows:
        if not name.endswith(tuple(generate.EXTENDS)):
            assert all(f"fmha_{kind}_{name}.cu" in files for kind in generate.REQUIRED)
    assert len(files) == 1 + sum(f"fmha_{kind}_{name}.cu" in files for kind in generate.KINDS for name in rows)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_last_kernel_of_every_list_takes_every_call(arch: str) -> None:
    files = generate.generate(KERNELS, TUNING, arch)
    lists = re.findall(r"k(?:Forward|Backward)_(\w+)\[\] = \{(.*?)\};\n", files["fmha_table.cu"], re.DOTALL)
    assert len(lists) == 2 * files["fmha_table.cu"].count(", DType::")
    for name, text in lists:
        if "512x512" in name:  # only sm_90 has them, and what it does not take is refused
            assert arch == "sm90" and text.count("&entry_") == 1
            continue
        *partial, last = re.findall(r"[^_]entry_(\w+)", re.sub(r", &entry_\w+\}", "", text))
        assert "nullptr" in files[f"{last}.cu"]
        assert all("nullptr" not in files[f"{kernel}.cu"] for kernel in partial)


def test_plain_kernel_is_used_where_it_is_tuned_and_only_there() -> None:
    tuning = copy.deepcopy(TUNING["host"])
    tuning["fwd_plain"] = {"32-bit": {"64x64": tuning["fwd"]["32-bit"]["64x64"]}}
    files = generate.generate(KERNELS, {"host": tuning}, "host")
    assert "false>>" in files["fmha_fwd_plain_hd64x64_fp32_host.cu"]
    assert "return !has_extras(params);" in files["fmha_fwd_plain_hd64x64_fp32_host.cu"]
    assert "true>>" in files["fmha_fwd_hd64x64_fp32_host.cu"]
    either = "&entry_fmha_fwd_plain_hd64x64_fp32_host,\n    &entry_fmha_fwd_hd64x64_fp32_host}"
    assert either in files["fmha_table.cu"]
    assert "fmha_fwd_plain_hd64x64_bf16_host.cu" not in files


def test_an_arch_that_extends_another_tries_its_own_kernels_first() -> None:
    files = generate.generate(KERNELS, TUNING, "sm90")
    forward = re.search(r"kForward_hd128x128_bf16_sm90\[\] = \{(.*?)\};", files["fmha_table.cu"], re.DOTALL)
    kernels = re.findall(r"&entry_(\w+)", forward[1])
    assert kernels[:2] == ["fmha_fwd_ws_long_hd128x128_bf16_sm90", "fmha_fwd_ws_hd128x128_bf16_sm90"]
    assert kernels[-1] == "fmha_fwd_hd128x128_bf16_sm80"
    backward = re.search(r"kBackward_hd128x128_bf16_sm90\[\] = \{(.*?)\};", files["fmha_table.cu"], re.DOTALL)
    pairs = re.findall(r"\{&entry_(\w+), (\S+)\}", backward[1])
    assert pairs[0] == ("fmha_bwd_ws_ordered_hd128x128_bf16_sm90", "nullptr")
    assert pairs[1] == ("fmha_bwd_ws_long_hd128x128_bf16_sm90", "&entry_fmha_bwd_dq_hd128x128_bf16_sm80")
    assert pairs[2] == ("fmha_bwd_ws_hd128x128_bf16_sm90", "&entry_fmha_bwd_dq_hd128x128_bf16_sm80")
    # Head dim 96 in whole slabs of 64 columns.
    assert "BwdWsProblem<bf16, 128, 128, 64, sm90::DqSum::kAnyOrder>" in files["fmha_bwd_ws_hd96x96_bf16_sm90.cu"]
    searched = re.findall(r"return find\(kInstances_(\w+),", files["fmha_table.cu"])
    assert searched == ["sm90", "sm80"]


@pytest.mark.parametrize("arch", ARCHS)
def test_name_of_file_kernel_and_launcher_is_one(arch: str) -> None:
    files = generate.generate(KERNELS, TUNING, arch)
    table = files.pop("fmha_table.cu")
    for file, text in files.items():
        kernel = file.removesuffix(".cu")
        assert f"struct {kernel}\n" in text
        assert f"int run_{kernel}(const AttnParams& params, void* stream) {{" in text
        assert f"extern FmhaKernel entry_{kernel};" in table


@pytest.mark.parametrize("arch", ARCHS)
def test_table_finds_the_smallest_instance(arch: str) -> None:
    """The table is searched from the top: of a dtype's rows, the first that fits must be the smallest."""
    table = generate.generate(KERNELS, TUNING, arch)["fmha_table.cu"].split("kInstances_")[1]
    rows = [(dtype, int(qk), int(v)) for dtype, qk, v in re.findall(r"DType::(\w+), (\d+), (\d+),", table)]
    for dtype in {row[0] for row in rows}:
        pairs = [row[1:] for row in rows if row[0] == dtype]
        for qk in range(8, 257, 8):
            for v in range(8, 257, 8):
                fitting = [pair for pair in pairs if pair[0] >= qk and pair[1] >= v]
                if not fitting:
                    continue  # left out of the arch
                assert sum(fitting[0]) == min(map(sum, fitting)), (dtype, qk, v, fitting[0])


@pytest.mark.parametrize("arch", ARCHS)
def test_unchanged_files_keep_their_time_and_stale_ones_go(arch: str, tmp_path: Path) -> None:
    command = [sys.executable, str(CODEGEN / "generate.py"), "--arch", arch, "--out", str(tmp_path)]
    listed = subprocess.run([*command, "--list"], capture_output=True, text=True, check=True).stdout
    assert list(tmp_path.iterdir()) == []
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == listed
    files = sorted(tmp_path.iterdir())
    assert listed.split() == [str(file) for file in files]
    times = {file: file.stat().st_mtime_ns for file in files}
    edited, stale = files[0], tmp_path / "fmha_fwd_hd8x8_bf16_none.cu"
    edited.write_text("edited by hand\n")
    stale.write_text("no longer in kernels.toml\n")
    subprocess.run(command, capture_output=True, check=True)
    assert not stale.exists()
    assert "edited by hand" not in edited.read_text()
    assert all(file.stat().st_mtime_ns == times[file] for file in files[1:])


def test_missing_and_misspelt_tuning_is_refused_by_name() -> None:
    tuning = copy.deepcopy(TUNING["host"])
    del tuning["fwd"]["16-bit"]["64x64"]
    with pytest.raises(SystemExit, match=r"tuning/host\.toml \[fwd\.16-bit\] 64x64 is missing"):
        generate.generate(KERNELS, {"host": tuning}, "host")
    tuning = copy.deepcopy(TUNING["host"])
    tuning["bwd"]["32-bit"]["64x64"]["block_k"] = 64
    with pytest.raises(SystemExit, match=r"\[bwd\.32-bit\] 64x64 has .*'block_k'.*needed are exactly"):
        generate.generate(KERNELS, {"host": tuning}, "host")
