"""A process that has globally loaded another library with the same nvte_* names, as TransformerEngine's is, works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import native

NAMES = re.compile(r"^NVTE_API .*?\b(nvte_\w+)\(", re.MULTILINE)
HERE = Path(__file__).resolve().parent

# Loads the decoy for everyone, sees that its names are found, then uses portattn.
USE_CORE = """
import ctypes, sys
decoy, library, tests = sys.argv[1:]
ctypes.CDLL(decoy, mode=ctypes.RTLD_GLOBAL)
assert ctypes.CDLL(None).nvte_get_fused_attn_backend() == 1234
sys.path.insert(0, tests)
from capi import BACKWARD, FORWARD, SUCCESS, Api
from problem import BASE_THD, Problem
api = Api(library)
handle = api.config(**BASE_THD)
for direction in (FORWARD, BACKWARD):
    assert Problem(BASE_THD).run(api, handle, direction) == SUCCESS, api.error()
"""

USE_TORCH = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
import torch
from portattn.pytorch import dot_product_attention
q = torch.randn(2, 9, 4, 16, requires_grad=True)
out = dot_product_attention(q, q, q)
out.sum().backward()
expected = torch.nn.functional.scaled_dot_product_attention(*[x.transpose(1, 2) for x in (q, q, q)]).transpose(1, 2)
assert (out - expected).abs().max() < 1e-5
"""

USE_JAX = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
import jax
from portattn_jax.flax import DotProductAttention
q = jax.random.normal(jax.random.key(0), (2, 9, 4, 16))
out = DotProductAttention(16, 4, attn_mask_type="no_mask").apply({}, q, q, q)
assert abs(out - jax.nn.dot_product_attention(q, q, q)).max() < 1e-5
"""


@pytest.fixture(scope="module")
def decoy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that answers 1234 under every name of the C API, and under that of a device library's entry."""
    folder = tmp_path_factory.mktemp("decoy")
    headers = (native.CSRC / "include" / "portattn").glob("*.h")
    names = sorted({name for header in headers for name in NAMES.findall(header.read_text())})
    assert len(names) > 10
    source = folder / "decoy.c"
    source.write_text("".join(f"int {name}(void) {{ return 1234; }}\n" for name in [*names, "portattn_plugin"]))
    native.run([native.compiler("cc", "gcc"), "-shared", "-fPIC", source, "-o", folder / "libdecoy.so"])
    return folder / "libdecoy.so"


def run_python(program: str, *arguments: Path, **environment: str) -> None:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_core_and_device_library(decoy: Path, fake_folder: Path) -> None:
    run_python(USE_CORE, decoy, fake_folder / "libportattn.so", HERE, PORTATTN_HOST_ISA="generic")


def test_torch_operators(decoy: Path) -> None:
    pytest.importorskip("portattn.pytorch", reason="the torch operators are not built", exc_type=ImportError)
    run_python(USE_TORCH, decoy)


def test_jax_handlers(decoy: Path) -> None:
    pytest.importorskip("flax", reason="neither jax nor flax is installed", exc_type=ImportError)
    run_python(USE_JAX, decoy, JAX_PLATFORMS="cpu")
