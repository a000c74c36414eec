"""The tree keeps its layers, and the check sees every kind of breach."""

from __future__ import annotations

from pathlib import Path

import pytest

import layering

ROOT = Path(__file__).resolve().parents[2]

BREACHES = [
    ("csrc/include/portattn/x.h", "#include <cuda_runtime.h>", "csrc/include includes only"),
    ("csrc/include/portattn/x.h", '#include "core/env.h"', "csrc/include includes only"),
    ("csrc/core/x.cpp", "#include <cuda_runtime_api.h>", "no vendor header"),
    ("csrc/core/x.cpp", '#include "cuda/tile/ops.cuh"', "plain C++ headers"),
    ("csrc/core/x.cpp", 'const char* x = getenv("X");', "env.cpp reads the environment"),
    ("csrc/core/x.cpp", "cudaStream_t stream;", "vendor spelling"),
    ("python/csrc/x.cpp", '#include "core/status.h"', "csrc/include only"),
    ("csrc/cuda/fmha/x.cuh", "int i = threadIdx.x;", "vendor spelling"),
    ("csrc/cuda/attn/x.cuh", "v = __shfl_xor_sync(m, v, 1);", "vendor spelling"),
    ("csrc/cuda/attn/x.cuh", "#if defined(PORTATTN_TARGET_HOST)", "only architecture switch"),
    ("csrc/cuda/attn/x.cuh", '#include "fmha/problem.cuh"', "attn/ may include"),
    ("csrc/cuda/attn/x.cuh", '#include "arch/sm80/mma.cuh"', "attn/ may include"),
    ("csrc/cuda/fmha/x.cuh", '#include "unfused/kernel.cuh"', "fmha/ may include"),
    ("csrc/cuda/device/x.cuh", '#include "tile/ops.cuh"', "device/ may include"),
    ("csrc/hip/arch/gfx942/x.cuh", '#include "attn/softmax.cuh"', "arch/ may include"),
    ("python/portattn/common/x.py", "import torch.nn", "torch is imported"),
    ("python/portattn/pytorch/x.py", "from jax import numpy", "jax is imported"),
    ("python/portattn/pytorch/x.py", "from ..testing import reference", "import portattn.testing"),
    ("python/portattn/pytorch/x.py", "import os\nx = os.environ['X']", "env.py reads the environment"),
    ("jax_bindings/portattn_jax/x.py", "import portattn.pytorch", "never import each other"),
]

KEPT = [
    ("csrc/cuda/fmha/x.cuh", "// threadIdx and cudaMalloc in a comment\n/* asm\n hipMalloc */"),
    ("csrc/cuda/fmha/x.cuh", '#include "unfused/launch.h"\n#include "tile/ops.cuh"\n#include <cmath>'),
    ("csrc/cuda/fmha/pipeline/sm90_x.cuh", "int i = threadIdx.x;"),
    ("csrc/cuda/device/x.cuh", "cudaError_t error;"),
    ("csrc/core/x.cpp", 'const char* text = "cudaMalloc failed";\n#include "cuda/plugin.h"'),
    ("csrc/core/env.cpp", 'getenv("X");'),
    ("python/portattn/pytorch/x.py", "import torch"),
    ("python/portattn/common/env.py", "import os\nx = os.environ['X']"),
]


def tree(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True)
    file.write_text(text + "\n")
    return root


def test_the_tree_keeps_its_layers() -> None:
    findings = layering.check(ROOT)
    assert not findings, "\n".join(map(str, findings))


@pytest.mark.parametrize(("path", "text", "rule"), BREACHES)
def test_breach_is_reported_with_its_line(tmp_path: Path, path: str, text: str, rule: str) -> None:
    findings = layering.check(tree(tmp_path, path, text))
    assert len(findings) == 1, findings
    assert rule in findings[0].rule
    assert str(findings[0]).startswith(f"{path}:{text.count(chr(10)) + 1}: ")


@pytest.mark.parametrize(("path", "text"), KEPT)
def test_what_is_allowed_is_not_reported(tmp_path: Path, path: str, text: str) -> None:
    assert layering.check(tree(tmp_path, path, text)) == []
