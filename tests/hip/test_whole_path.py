"""What is around the kernels on a simulated AMD GPU: devices, errors, repeatability, PyTorch's frontend."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hip_cases
import simulator
from portattn.testing import capi
from portattn.testing.runner import make_config, make_problem, run_backward, run_forward
from simulation import Simulation

CASE = replace(hip_cases.BASE, dropout=0.2, deterministic=True, softmax="learnable")


def test_the_fused_kernels_are_chosen(simulation: Simulation) -> None:
    assert "fused_varlen: chosen" in make_config(make_problem(CASE)).explain()


def test_a_wild_access_reaches_the_last_error(simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that reads beyond the tensors of its call fails it, and the error tells where."""
    problem = make_problem(CASE)
    register = Simulation.memory

    def without_v(self: Simulation, inputs: dict, outputs: dict):
        return register(self, {**inputs, "v": None}, outputs)

    monkeypatch.setattr(Simulation, "memory", without_v)
    with pytest.raises(capi.NVTEError, match="device_error: launching the forward of fused_varlen on hip") as caught:
        run_forward(problem, "fused_varlen")
    text = str(caught.value)
    assert "hipErrorLaunchFailure" in text and "kernel_entry" in text and "load" in text


@pytest.mark.parametrize("backend", ["fused_varlen", "unfused"])
def test_repeatable_in_any_order_of_waves(backend: str, simulation: Simulation) -> None:
    problem = make_problem(CASE)
    first: dict[str, torch.Tensor] = {}
    for seed in (0, 1, 2):
        simulation.order_waves(seed)
        outputs = run_forward(problem, backend)
        results = outputs | run_backward(problem, outputs, backend)
        first = first or results
        for name, tensor in results.items():
            assert torch.equal(tensor, first[name]), f"{name} depends on the order of waves"


def run_simulated(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PORTATTN_HIP_SIM": "1", "PORTATTN_LIBRARY_DIR": str(folder)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


USE_TORCH = """
import ctypes, sys
import torch
from portattn.pytorch import DotProductAttention, dot_product_attention
torch.manual_seed(0)
q, k, v = (torch.randn(2, 40, 4, 64, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
d_o = torch.randn_like(q)
out = dot_product_attention(q, k, v, attn_mask_type="causal")
expected = torch.nn.functional.scaled_dot_product_attention(
    *(x.transpose(1, 2).double() for x in (q, k, v)), is_causal=True).transpose(1, 2)
got = (out, *torch.autograd.grad(out, (q, k, v), d_o))
want = (expected, *torch.autograd.grad(expected, (q, k, v), d_o.double()))
for a, b in zip(got, want):
    assert (a.double() - b.double()).abs().max() < 3e-2 * b.abs().max()
"""

USE_JAX = """
import ctypes, sys
import jax
import jax.numpy as jnp
from portattn_jax import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVLayout, SequenceDescriptor, fused_attn
keys = jax.random.split(jax.random.key(0), 4)
q, k, v, d_o = (jax.random.normal(key, (2, 40, 4, 64), jnp.bfloat16) for key in keys)
lengths = SequenceDescriptor.from_seqlens(jnp.array([40, 40]))
kinds = (AttnBiasType.NO_BIAS, AttnMaskType.CAUSAL_MASK, QKVLayout.BSHD_BSHD_BSHD, AttnSoftmaxType.VANILLA_SOFTMAX)
def attend(q, k, v):
    return fused_attn((q, k, v), None, lengths, None, *kinds, 64**-0.5, 0.0, True)
def expect(q, k, v):
    scores = jnp.einsum("bihd,bjhd->bhij", q, k) * 64**-0.5
    scores = jnp.where(jnp.tril(jnp.ones((40, 40), bool)), scores, -jnp.inf)
    return jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(scores), v)
out, pull = jax.vjp(jax.jit(attend), q, k, v)
expected, pull_expected = jax.vjp(expect, *(x.astype(jnp.float32) for x in (q, k, v)))
for a, b in zip((out, *pull(d_o)), (expected, *pull_expected(d_o.astype(jnp.float32)))):
    assert jnp.abs(a.astype(jnp.float32) - b).max() < 3e-2 * jnp.abs(b).max()
"""

# What the simulated GPU has launched: proof that nothing else has computed.
COUNT_LAUNCHES = """
report = (ctypes.c_uint64 * 64)()
launches = ctypes.CDLL(sys.argv[1]).gfxsim_hip_take_report
launches.restype = ctypes.c_uint64
print(launches(report))
"""


def test_cpu_tensors_of_torch_run_on_the_simulated_gpu(simulation: Simulation) -> None:
    folder = simulator.package()
    runtime = str(folder / "libgfx942_sim_hip.so")
    assert int(run_simulated(folder, "-c", USE_TORCH + COUNT_LAUNCHES, runtime)) >= 3


def test_cpu_arrays_of_jax_run_on_the_simulated_gpu(simulation: Simulation) -> None:
    pytest.importorskip(
        "portattn_jax", reason="JAX is not installed or its handlers are not built", exc_type=ImportError
    )
    folder = simulator.package()
    runtime = str(folder / "libgfx942_sim_hip.so")
    assert int(run_simulated(folder, "-c", USE_JAX + COUNT_LAUNCHES, runtime)) >= 3


def test_info_shows_library_runtime_and_device(simulation: Simulation) -> None:
    folder = simulator.package()
    text = run_simulated(folder, "-m", "portattn.info")
    line = next(line for line in text.splitlines() if line.startswith("device     hip: "))
    runtime = folder / "libgfx942_sim_hip.so"
    assert f"libportattn_hip.so, built for gfx942, runtime {runtime}, device 0: gfx942 simulated on the CPU" in line
    assert "(arch 942, 304 multiprocessors)" in line
