"""What the library says on stderr of JAX's calls: the lines that callers from PyTorch and from C see too."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import pytest

PROGRAM = """
import sys
import jax, jax.numpy as jnp
from portattn_jax import *

platform, what = sys.argv[1:]
jax.config.update("jax_default_device", jax.devices(platform)[0])
kinds = dict(
    bias=None, seed=None, attn_bias_type=AttnBiasType.NO_BIAS, softmax_type=AttnSoftmaxType.VANILLA_SOFTMAX,
    scaling_factor=0.125, dropout_probability=0.0, is_training=False,
)

def by_promise(promise):
    lengths, starts = jnp.array([[3, 16, 1]]), jnp.array([[0, 3, 19, 20]])
    descriptor = SequenceDescriptor.from_seqlens_and_offsets(
        (jnp.ones_like(lengths), lengths), (jnp.arange(4)[None], starts), max_segment_seqlen_q=1,
        max_segment_seqlen_kv=promise,
    )
    qkv = jnp.ones((1, 3, 4, 64)), jnp.ones((1, 20, 4, 64)), jnp.ones((1, 20, 4, 64))
    mask, layout = AttnMaskType.PADDING_MASK, QKVLayout.THD_THD_THD
    return fused_attn(qkv, sequence_descriptor=descriptor, attn_mask_type=mask, qkv_layout=layout, **kinds)

def by_fallback(scale):
    mask, layout = AttnMaskType.ARBITRARY_MASK, QKVLayout.BSHD_BSHD_BSHD
    return fused_attn(
        (jnp.ones((2, 8, 4, 16)),) * 3, sequence_descriptor=None, attn_mask_type=mask, qkv_layout=layout,
        attention_mask=jnp.zeros((8, 8), bool), **kinds | {"scaling_factor": scale},
    )

for number in (16, 8):
    jax.block_until_ready(jax.jit(by_promise if what == "promise" else by_fallback, static_argnums=0)(number))
"""


def told(what: str, platform: str = "cpu", **environment: str) -> list[str]:
    """Lines of stderr that are the library's."""
    command = [sys.executable, "-c", PROGRAM, platform, what]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [line for line in result.stderr.splitlines() if line.startswith("portattn: ")]


def test_a_fallback_is_told() -> None:
    """Once by the library that is asked while compiling, once by the one that runs the call."""
    lines = told("fallback", NVTE_LOG_FUSED_ATTN_CONFIG="1")
    assert len(lines) == 2 and lines[0] == lines[1]
    assert lines[0].startswith("portattn: unfused chosen as a fallback: fused_varlen refused: mask_type is arbitrary")
    assert not told("fallback", NVTE_LOG_FUSED_ATTN_CONFIG="0")


@pytest.mark.parametrize("platform", ["cpu", pytest.param("gpu", marks=pytest.mark.L1)])
def test_debug_mode_tells_of_a_broken_promise(platform: str) -> None:
    if platform == "gpu" and jax.default_backend() != "gpu":
        pytest.skip("no GPU that jax can use")
    (line,) = told("promise", platform, PORTATTN_DEBUG="1")
    assert "segment 1 has cu_seqlens_kv length 16, but max_segment_seqlen_kv promises up to 8" in line
    assert not told("promise", platform, PORTATTN_DEBUG="0")
