"""Kernels with one mistake each: the simulator must find it, say where it is, and accept the kernel without it."""

from __future__ import annotations

import numpy as np
import pytest

import gfx942_sim
from checks import same

THREADS = np.arange(256)


@pytest.fixture
def kernels(compiled) -> gfx942_sim.CodeObject:
    return compiled("faults")


def fails(status: str, *words: str) -> pytest.RaisesExc:
    """Expects a SimulationError with this status and these words in its text."""

    def fits(error: gfx942_sim.SimulationError) -> bool:
        missing = [word for word in words if word not in str(error)]
        assert error.status == status and not missing, f"{error}\nwithout {missing}"
        return True

    return pytest.raises(gfx942_sim.SimulationError, check=fits)


def test_read_past_the_end(kernels):
    given, out = np.arange(256, dtype=np.int32), np.zeros(256, np.int32)
    kernels["global_read"]((1,), (256,), given, out, 0)
    same(out, given)
    where = (
        "kernel global_read",
        "wave 3",
        "pc 0x",
        "global_load_dword",
        "lane 63",
        "past the end of array argument 0",
    )
    with fails("memory fault", *where):
        kernels["global_read"]((1,), (256,), given, out, 1)
    with fails("memory fault", "read of 4 bytes", "lane 0"):
        kernels["global_read"]((1,), (256,), given, out, -1)


def test_write_past_the_end_and_to_read_only_memory(kernels):
    out = np.zeros(256, np.int32)
    with fails("memory fault", "write of 4 bytes", "past the end"):
        kernels["global_write"]((1,), (256,), out, 1)
    out = np.zeros(256, np.int32)
    out.flags.writeable = False
    with fails("memory fault", "write of 4 bytes", "read-only"):
        kernels["global_write"]((1,), (256,), out, 0)
    same(out, np.zeros(256))


def test_lds_past_the_end(kernels):
    out = np.zeros(256, np.int32)
    kernels["lds_write"]((1,), (256,), out, 0)
    with fails("memory fault", "LDS access of 4 bytes at 0x400 by lane 63", "the block has 1024 bytes"):
        kernels["lds_write"]((1,), (256,), out, 1)


def test_scratch_past_the_end(kernels):
    out = np.zeros(256, np.int32)
    kernels["scratch_write"]((1,), (256,), out, 3)
    same(out, np.where(THREADS % 16 == 3 + THREADS % 2, 7, THREADS % 16), "thread t writes index 3 + t % 2")
    with fails("memory fault", "scratch access of 4 bytes"):
        kernels["scratch_write"]((1,), (256,), out, 10000)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_missing_barriers(kernels, seed):
    out = np.zeros(256, np.int32)
    kernels["rotate"]((1,), (256,), out, 3, seed=seed)
    same(out, (THREADS + 64) % 256 + 1)
    for barriers in (0, 1, 2):
        with fails("race", "kernel rotate", "LDS byte", "no barrier", "pc 0x"):
            kernels["rotate"]((1,), (256,), out, barriers, seed=seed)
    kernels["rotate"]((1,), (256,), out, 0, seed=seed, check_races=False)


def test_uninitialised_lds_is_nan(kernels):
    out = np.zeros(256, np.float32)
    kernels["uninitialised_lds"]((1,), (256,), out)
    assert np.all(out[:128] == 1) and np.all(np.isnan(out[128:]))


def test_hang_and_progress(kernels):
    out = np.zeros(1, np.int32)
    with fails("hang", "more than the limit of 1000"):
        kernels["endless"]((1,), (256,), out, max_instructions=1000)
    kernels["released"]((1,), (256,), out, max_instructions=100000)


def test_trap(kernels):
    out = np.array([7, 0], np.int32)
    with fails("trap", "s_trap"):
        kernels["trap"]((1,), (64,), out)
    same(out, [7, 0])


def test_register_used_before_its_wait(kernels):
    given, out = THREADS.astype(np.int32), np.zeros(256, np.int32)
    kernels["wait"]((1,), (256,), given, out)
    same(out, THREADS + 1)
    with fails("hazard", "v_add_u32", "before s_waitcnt vmcnt"):
        kernels["no_wait"]((1,), (256,), given, out)
    kernels["no_wait"]((1,), (256,), given, out, check_waits=False)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("matrix_to_vector", 11),
        ("matrix_to_operand", 7),
        ("scalar_to_memory", 5),
        ("vector_to_dpp", 2),
        ("transcendental", 1),
    ],
)
def test_result_used_too_early(name, needed, kernels):
    given = np.zeros(64, np.int32)
    kernels[name]((1,), (64,), given)
    with fails("hazard", f"{needed - 1} instructions or s_nop states", f"{needed} are needed"):
        kernels[f"{name}_early"]((1,), (64,), given)
    kernels[f"{name}_early"]((1,), (64,), given, check_waits=False)


def test_sums_of_products_need_no_distance(kernels):
    kernels["matrix_to_sum"]((1,), (64,), np.zeros(64, np.int32))


def test_wait_that_covers_the_first_of_two_loads(kernels):
    given, out = np.arange(257, dtype=np.int32), np.zeros(256, np.int32)
    kernels["wait_for_first"]((1,), (256,), given, out, 0)
    same(out, THREADS + 1)
    with fails("hazard", "v_add_u32", "before s_waitcnt vmcnt"):
        kernels["wait_for_first"]((1,), (256,), given, out, 1)


def test_scalar_register_used_before_its_wait(kernels):
    with fails("hazard", "s_add_i32", "before s_waitcnt lgkmcnt"):
        kernels["no_scalar_wait"]((1,), (256,), np.zeros(4, np.int32), np.zeros(256, np.int32))


@pytest.mark.parametrize("shift", [0, 64])
def test_lds_read_before_the_load_that_brings_it(kernels, shift):
    """A wave must wait for its own loads before the barrier, also for what other waves read."""
    given, out = THREADS.astype(np.int32), np.zeros(256, np.int32)
    kernels["lds_load_wait"]((1,), (256,), given, out, shift)
    same(out, (THREADS + shift) % 256)
    words = ("did not wait for that load before the last barrier",) if shift else ("before s_waitcnt vmcnt covers",)
    with fails("hazard", "ds_read_b32", *words):
        kernels["lds_load_no_wait"]((1,), (256,), given, out, shift)


def test_unknown_instruction_runs_nothing(kernels):
    out = np.zeros(256, np.float32)
    with fails("unknown instruction", "kernel rounding", "s_setreg_imm32_b32", "nothing was executed"):
        kernels["rounding"]((1,), (256,), out)
    same(out, np.zeros(256))


def test_launch_arguments_are_checked(kernels):
    kernel, out = kernels["global_write"], np.zeros(256, np.int32)
    with fails("invalid argument", "1024 threads", "at most 256"):
        kernel((1,), (1024,), out, 0)
    with fails("invalid argument", "grid (0, 1, 1)"):
        kernel((0,), (256,), out, 0)
    with fails("invalid argument", "block (256, 0, 1)"):
        kernel((1,), (256, 0), out, 0)
    with fails("invalid argument", "bytes of LDS"):
        kernel((1,), (256,), out, 0, dynamic_lds=1 << 20)
    with pytest.raises(TypeError, match="takes 2 arguments, 1 were given"):
        kernel((1,), (256,), out)
    with pytest.raises(TypeError, match="an argument has 8 bytes, the kernel takes 4"):
        kernel((1,), (256,), out, np.int64(0))
    with fails("not found", "no kernel missing"):
        kernels["missing"]


def test_overlapping_memory_is_refused():
    array = np.zeros(64, np.int32)
    with (
        gfx942_sim.registered(array, "whole"),
        fails("invalid argument", "overlaps whole"),
        gfx942_sim.registered(array[8:], "part"),
    ):
        raise AssertionError("registered twice")
