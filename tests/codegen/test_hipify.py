"""The HIP mirror: nothing but names changes, what has no HIP name is an error with file and line, and the second run
touches nothing."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hipify

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "cmake" / "hipify.py"
RULES = hipify.Rules(skip=["*/sm[0-9]*"], map={"cudaOurs": "hipOurs"}, allow=["cudaAllowed"])

pytestmark = pytest.mark.skipif(
    all(importlib.util.find_spec(name) is None for name in ("torch", "hipify_torch")),
    reason="neither torch nor hipify_torch is installed",
)

SMALL_TREE = {
    "cuda/device/launch.cuh": """\
        #include <cuda_runtime.h>
        // cudaUnknownInAComment
        inline int sync(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
        inline void* own = cudaOurs();  inline void* kept = cudaAllowed();
        #if defined(PORTATTN_TARGET_HIP)
        template <class V> V swap(V v) { return __shfl_xor(v, 1, 64); }
        #else
        template <class V> V swap(V v) { return __shfl_xor_sync(0xffffffffu, v, 1); }
        #endif
        """,
    "cuda/kernel.cu": '#include "device/launch.cuh"\nconst char* kText = "cudaUnknownInAString";\n',
    "cuda/small_seq/launch.h": "#pragma once\n",
    "cuda/arch/sm80/mma.cuh": "inline void load() { __cvta_generic_to_shared(0); }\n",
    "hip/arch/gfx942/mma.cuh": "#pragma once\n",
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(re.sub(r"^ {8}", "", text, flags=re.MULTILINE))
    return root


def mirror(root: Path) -> dict[Path, str]:
    return hipify.hipify(root / "cuda", root / "hip", root / "out", RULES)


def test_names_are_translated_and_the_overlay_is_merged(tmp_path: Path) -> None:
    written = mirror(plant(tmp_path, SMALL_TREE))
    assert {path.as_posix() for path in written} == {
        "device/launch.cuh",
        "kernel.cu",
        "small_seq/launch.h",
        "arch/gfx942/mma.cuh",
    }
    launch = (tmp_path / "out" / "device" / "launch.cuh").read_text()
    for expected in ("<hip/hip_runtime.h>", "hipStream_t stream", "hipStreamSynchronize(", "hipOurs()"):
        assert expected in launch
    assert (tmp_path / "out" / "kernel.cu").read_text() == SMALL_TREE["cuda/kernel.cu"]


PLANTED = {
    "unmapped API": (
        "cuda/a.cuh",
        "#pragma once\nauto f = cudaLaunchKernelExC_v9;\n",
        r"a\.cuh:2: cudaLaunchKernelExC_v9",
    ),
    "unmapped header": ("cuda/a.cuh", "#include <cuda_fp6.h>\n", r"a\.cuh:1: cuda_fp6"),
    "unmapped type": ("cuda/a.cuh", "\n\n__nv_fp8_e4m3 x;\n", r"a\.cuh:3: __nv_fp8_e4m3"),
    "32-lane mask": ("cuda/a.cuh", "int f() { return __ballot_sync(~0u, 1); }\n", r"a\.cuh:1: __ballot_sync"),
    "HIP branch": (
        "cuda/a.cuh",
        "#if defined(PORTATTN_TARGET_HOST)\n#elif defined(PORTATTN_TARGET_HIP)\nnv_bfloat16 x;\n#endif\n",
        r"a\.cuh:3: nv_bfloat16",
    ),
    "other condition": ("cuda/a.cuh", "#if defined(__CUDA_ARCH__) || X\n#endif\n", r"a\.cuh:1: __CUDA_ARCH__"),
    "overlay": ("hip/a.cuh", "// fine\nauto f = cudaNoSuch;\n", r"hip/a\.cuh:2: cudaNoSuch"),
    "one name twice": ("hip/kernel.cu", "\n", r"hip/kernel\.cu:1: .*has that name too"),
}


@pytest.mark.parametrize(("name", "text", "expected"), PLANTED.values(), ids=PLANTED.keys())
def test_what_has_no_hip_name_is_an_error(tmp_path: Path, name: str, text: str, expected: str) -> None:
    plant(tmp_path, SMALL_TREE | {name: text})
    with pytest.raises(hipify.HipifyError, match=expected):
        mirror(tmp_path)
    assert not (tmp_path / "out").exists()


def test_branches_of_other_targets_are_not_read() -> None:
    text = """\
#if defined(PORTATTN_TARGET_HOST) || !defined(PORTATTN_TARGET_HIP)
host
#elif defined(PORTATTN_TARGET_HIP) && defined(X)
maybe
#else
hip
#if X
hip and X
#endif
#endif
#if !defined(PORTATTN_TARGET_HIP)
cuda
#else
hip again
#endif"""
    seen = [line for _, line in hipify.seen_by_hip(text) if not line.startswith("#")]
    assert seen == ["maybe", "hip", "hip and X", "hip again"]


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    root = plant(tmp_path, SMALL_TREE)
    mirror(root)
    kernel, launch = root / "out" / "kernel.cu", root / "out" / "device" / "launch.cuh"
    before = kernel.stat().st_mtime_ns, launch.stat().st_mtime_ns
    mirror(root)
    assert (kernel.stat().st_mtime_ns, launch.stat().st_mtime_ns) == before
    (root / "cuda" / "kernel.cu").write_text("int changed;\n")
    (root / "hip" / "arch" / "gfx942" / "mma.cuh").unlink()
    mirror(root)
    assert kernel.read_text() == "int changed;\n" and launch.stat().st_mtime_ns == before[1]
    assert not (root / "out" / "arch" / "gfx942" / "mma.cuh").exists()


def test_sources_are_never_written_into(tmp_path: Path) -> None:
    root = plant(tmp_path, SMALL_TREE)
    with pytest.raises(hipify.HipifyError, match="nothing is written into the sources"):
        hipify.hipify(root / "cuda", root / "hip", root / "cuda" / "hip", RULES)


def test_says_what_to_install_where_no_names_are(tmp_path: Path) -> None:
    root = plant(tmp_path, SMALL_TREE)
    folders = ["--source", root / "cuda", "--overlay", root / "hip", "--out", root / "out"]
    bare = [sys.executable, "-I", "-S", SCRIPT, *folders]  # without site-packages
    result = subprocess.run([str(word) for word in bare], capture_output=True, text=True)
    assert result.returncode == 1
    assert "install torch" in result.stderr


def test_mirror_of_the_project_differs_in_device_alone(tmp_path: Path) -> None:
    rules = hipify.Rules(**json.loads(hipify.MAP.read_text()))
    source, overlay = ROOT / "csrc" / "cuda", ROOT / "csrc" / "hip"
    written = hipify.hipify(source, overlay, tmp_path / "out", rules)
    ours = {name: file for name, file in hipify.files_in(source).items() if not rules.skips(name)}
    assert len(written) == len(ours) + len(hipify.files_in(overlay))
    differing = [name for name, file in ours.items() if file.read_text() != written[name]]
    assert differing, "device/ holds the vendor's spelling: nothing was translated"
    assert [name.as_posix() for name in differing if name.parts[0] != "device"] == []
