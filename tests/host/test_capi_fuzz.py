"""Random and hostile calls (fuzz.py) of the core and the host kernels under AddressSanitizer and UBSan."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import native

FLAGS = ["-O1", *native.SANITIZERS]
# Fused kernels that walk all their code: what fuzz.py asks for.
DTYPES, HEAD_DIMS = ["bf16", "fp32"], [[32, 32]]
CALLS = 20000
KERNEL_EDGES = native.ROOT / "tests" / "kernels" / "test_edges.py"
SEED_HINT = "repeat a failure with --seed, as tests/host/fuzz.py --help says"


def source_digest() -> str:
    """Of everything that the libraries are made from."""
    digest = hashlib.sha256(repr((FLAGS, DTYPES, HEAD_DIMS)).encode())
    for path in sorted([*native.CSRC.rglob("*"), *native.ROOT.glob("cmake/*.map"), Path(native.__file__)]):
        if path.is_file() and path.suffix not in (".pyc",):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def runtime(name: str) -> str:
    """Path of a sanitizer's runtime; the compiler answers with the bare name where it has none."""
    answer = subprocess.run([native.compiler("g++", "c++"), f"-print-file-name={name}"], capture_output=True, text=True)
    path = answer.stdout.strip()
    if not Path(path).is_absolute():
        pytest.skip(f"the compiler has no {name}")
    return path


@pytest.fixture(scope="module")
def sanitizers() -> str:
    """For LD_PRELOAD: python itself is not sanitised."""
    return f"{runtime('libasan.so')} {runtime('libubsan.so')}"


@pytest.fixture(scope="module")
def sanitized(sanitizers: str) -> Path:
    """The core and the host library in build/sanitized, made anew when a source has changed."""
    folder = native.ROOT / "build" / "sanitized"
    stamp = folder / "digest"
    if not stamp.exists() or stamp.read_text() != source_digest():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        native.build_core(folder, FLAGS)
        native.build_host_plugin(folder, DTYPES, HEAD_DIMS, FLAGS)
        stamp.write_text(source_digest())
    return folder


def run_sanitized(command: list[object], sanitized: Path, sanitizers: str) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "LD_PRELOAD": sanitizers,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "PORTATTN_HOST_ISA": "generic",
        "PORTATTN_LIBRARY_DIR": str(sanitized),
        "NVTE_LOG_FUSED_ATTN_CONFIG": "0",
    }
    command = [str(word) for word in (sys.executable, *command)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_hostile_calls_never_break_anything(sanitized: Path, sanitizers: str) -> None:
    command = [Path(__file__).with_name("fuzz.py"), sanitized / "libportattn.so", "--calls", CALLS]
    result = run_sanitized(command, sanitized, sanitizers)
    assert result.returncode == 0, f"{SEED_HINT}\n{result.stdout[-200:]}\n{result.stderr[-8000:]}"
    print(result.stdout.split("\r")[-1])


def test_right_results_come_from_memory_that_is_ours(sanitized: Path, sanitizers: str) -> None:
    """Edge cases of tests/kernels: what a plain run cannot see is a read beyond a tensor."""
    selection = "hostile or zero_length or tokens_before or leading_gap or one_query or many_query_heads"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", selection, KERNEL_EDGES]
    result = run_sanitized(command, sanitized, sanitizers)
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-8000:]}"
