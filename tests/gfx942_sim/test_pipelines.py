"""The hand-written pipelines, for gfx942 and gfx950: what the compiler made of them, right results on it, and the share
of its time that the matrix cores work, as the cycle model predicts it."""

from __future__ import annotations

import pytest

import code_object
import hip_isa
import hip_tools
from pipelines import Pipelines, Problem

HEAD_DIMS = (64, 128)
KERNELS = [f"{direction}_{head_dim}" for direction in ("fwd", "bwd") for head_dim in HEAD_DIMS]
# Of matrix cores that are twice as fast on gfx950, where nothing else is.
LEAST_UTILISATION = {
    "gfx942": {"fwd_128": 0.80, "bwd_128": 0.68, "fwd_64": 0.55, "bwd_64": 0.57},
    "gfx950": {"fwd_128": 0.48, "bwd_128": 0.42, "fwd_64": 0.35, "bwd_64": 0.37},
}


@pytest.fixture(scope="module", params=["gfx942", "gfx950"])
def pipelines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    return Pipelines(tmp_path_factory.mktemp("pipelines"), arch=request.param)


@pytest.fixture(scope="module")
def pipelines_of_older_compilers(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    """As a clang without builtins for buffers has to compile them (arch/gfx942/buffer.cuh)."""
    return Pipelines(tmp_path_factory.mktemp("older"), "-DPORTATTN_HIP_BUFFERS_BY_NAME")


def matrix_loop(pipelines: Pipelines, name: str) -> list[hip_isa.Instruction]:
    """The loop over tiles: the shortest with products and both of its barriers. Branches back from code that the
    compiler has put elsewhere look like longer loops."""
    body = hip_isa.disassemble(pipelines.code)[f"run_{name}"]
    loops = [
        loop
        for loop in hip_isa.loops(body)
        if hip_isa.multiply_adds(loop) > 0 and sum(each.mnemonic == "s_barrier" for each in loop) == 2
    ]
    assert loops, f"{name} has no loop with products and two barriers"
    return min(loops, key=len)


@pytest.mark.parametrize("name", KERNELS)
def test_registers_and_lds(name: str, pipelines: Pipelines) -> None:
    readelf = hip_tools.toolchain().tool("llvm-readelf")
    kernels = {kernel.symbol: kernel for kernel in code_object.resources(pipelines.code, readelf)}
    kernel = kernels[f"run_{name}"]
    threads, _, lds = pipelines.facts(name)
    waves_a_simd = threads // 64 // 4
    assert not kernel.spills, kernel
    assert kernel.vgprs <= 512 // waves_a_simd, kernel  # accumulation registers among them
    assert lds <= 64 * 1024 and kernel.lds_bytes == 0


@pytest.mark.parametrize("name", KERNELS)
def test_no_product_is_made_twice(name: str, pipelines: Pipelines) -> None:
    """The loop's matrix work is that of the formulas: q k^T and p v in the forward, five products in the backward."""
    head_dim = int(name.split("_")[1])
    products, rows, cols = (2, 32, 4096 // head_dim) if name.startswith("fwd") else (5, 32, 32 * 128 // head_dim)
    assert hip_isa.multiply_adds(matrix_loop(pipelines, name)) == products * rows * cols * head_dim


@pytest.mark.parametrize("name", KERNELS)
def test_loads_of_the_loop_are_wide(name: str, pipelines: Pipelines) -> None:
    """16 bytes a lane; but for lse and delta, which the backward brings with one load of four."""
    loop = matrix_loop(pipelines, name)
    narrow = hip_isa.narrow_loads(loop)
    assert sum(instruction.is_load for instruction in loop) > len(narrow)
    assert [load.access_bytes for load in narrow] == ([] if name.startswith("fwd") else [4])


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_dim", [*HEAD_DIMS, 40, 104])
def test_results(head_dim: int, causal: bool, seed: int, pipelines: Pipelines) -> None:
    """Ragged tiles, two query heads a key head, head dims between the tuned ones; waves in turns and in random order,
    with every access to LDS checked for races and for missing waits."""
    check_results(pipelines, head_dim, causal, seed)


@pytest.mark.parametrize("head_dim", [40, 128])
def test_results_without_builtins_for_buffers(head_dim: int, pipelines_of_older_compilers: Pipelines) -> None:
    check_results(pipelines_of_older_compilers, head_dim, causal=True, seed=0)


def check_results(pipelines: Pipelines, head_dim: int, causal: bool, seed: int) -> None:
    tuned = 64 if head_dim <= 64 else 128
    forward = Problem(300, 333, head_dim, num_heads_q=4, num_heads_kv=2, causal=causal)
    pipelines.run(f"fwd_{tuned}", forward, seed)
    assert forward.error("o") < 1e-2
    assert forward.error("lse") < 1e-5
    backward = Problem(300, 333, head_dim, num_heads_q=4, num_heads_kv=2, causal=causal)
    backward.give_statistics()
    pipelines.run(f"bwd_{tuned}", backward, seed)
    assert {name: error for name in ("dq", "dk", "dv") if (error := backward.error(name)) >= 1e-2} == {}


@pytest.mark.parametrize("name", KERNELS)
def test_predicted_matrix_utilisation(name: str, pipelines: Pipelines) -> None:
    """Of a block that walks over 8192 rows, from the time of two shorter walks."""
    head_dim, forward = int(name.split("_")[1]), name.startswith("fwd")
    tile = pipelines.facts(name)[1]

    def block(walked: int) -> Problem:
        problem = Problem(*((tile, walked) if forward else (walked, tile)), head_dim)
        problem.give_statistics()
        return problem

    short, long = (pipelines.prediction(name, block(walked)) for walked in (512, 1024))
    further = (8192 - 1024) / 512
    steady = long - short
    busy = long.busy["matrix"] + further * steady.busy["matrix"]
    utilisation = busy / (4 * (long.cycles + further * steady.cycles))
    print(f"{name}: {utilisation:.3f} at 8192 rows, {steady.matrix_utilisation:.3f} in the loop")
    assert utilisation >= LEAST_UTILISATION[pipelines.code.arch][name]
