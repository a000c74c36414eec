"""XLA's command buffers (graphs): the handlers are recorded once and replayed, with other lengths each time.

Each run is a process of its own, since XLA reads its flags once. The library logs every call of a handler; a replayed
one makes no call.
"""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import pytest

RUNS = 16
PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np
from portattn_jax import *

platform, runs, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3]
kinds = dict(
    bias=None, seed=None, attn_bias_type=AttnBiasType.NO_BIAS, attn_mask_type=AttnMaskType.PADDING_CAUSAL_MASK,
    qkv_layout=QKVLayout.THD_THD_THD, softmax_type=AttnSoftmaxType.VANILLA_SOFTMAX, scaling_factor=0.3,
    dropout_probability=0.0, is_training=True,
)

@jax.jit
def step(q, k, v, d_o, lengths, starts):
    descriptor = SequenceDescriptor.from_seqlens_and_offsets(lengths, starts)
    out, pullback = jax.vjp(lambda *qkv: fused_attn(qkv, sequence_descriptor=descriptor, **kinds), q, k, v)
    return out, *pullback(d_o)

print("seed 5")
rng = np.random.default_rng(5)
tokens = [jnp.asarray(rng.standard_normal((2, 96, heads, 64)), dtype) for heads in (4, 2, 2, 4)]
starts = np.tile(np.array([0, 40, 80, 96], np.int32), (2, 1))
lengths = [np.stack([rng.integers(0, room + 1, 2) for room in (40, 40, 16)], 1).astype(np.int32) for _ in range(runs)]
device, host = jax.devices(platform)[0], jax.devices("cpu")[0]
on_device = [jax.device_put(array, device) for array in (*tokens, starts)]
results = []
for each in lengths:
    *inputs, there = on_device
    results.append([np.asarray(array, np.float32) for array in step(*inputs, jax.device_put(each, device), there)])
with jax.default_device(host):
    exact = [jax.device_put(array.astype(jnp.float32), host) for array in tokens]
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for each, got in zip(lengths, results):
        for result, expected in zip(got, step(*exact, each, starts), strict=True):
            assert np.abs(result - expected).max() <= tolerance * np.abs(expected).max()
"""
RECORDED = "--xla_gpu_enable_command_buffer=FUSION,CUSTOM_CALL --xla_gpu_graph_min_graph_size=1"
NOT_RECORDED = "--xla_gpu_enable_command_buffer="


def calls(flags: str, dtype: str) -> dict[str, int]:
    """How often each handler of the GPU was called."""
    environment = os.environ | {"XLA_FLAGS": flags, "NVTE_LOG_FUSED_ATTN_CONFIG": "3"}
    command = [sys.executable, "-c", PROGRAM, "gpu", str(RUNS), dtype]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    lines = [line for line in result.stderr.splitlines() if " device_type=" in line]
    return {name: sum(f"portattn: {name} by " in line for line in lines) for name in ("forward", "backward")}


@pytest.mark.L1
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replayed_with_other_lengths(dtype: str) -> None:
    if jax.default_backend() != "gpu":
        pytest.skip("no GPU that jax can use")
    assert calls(NOT_RECORDED, dtype) == {"forward": RUNS, "backward": RUNS}
    for name, count in calls(RECORDED, dtype).items():
        assert 1 <= count <= RUNS // 2, f"{name}: {count} calls in {RUNS} runs"
