"""The simulator's HIP runtime under small programs that clang compiled as for a GPU."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hip_tools
import simulator

SOURCES = Path(__file__).resolve().parent / "sources"
INVALID_VALUE, INVALID_CONFIGURATION, INVALID_FUNCTION, NO_BINARY, LAUNCH_FAILURE = 1, 9, 98, 209, 719


class Program:
    """A compiled runtime.hip on the simulator's runtime."""

    def __init__(self, library: Path):
        self.runtime = simulator.runtime()
        self.runtime.hipGetErrorString.restype = ctypes.c_char_p
        self.functions = ctypes.CDLL(str(library))

    def error(self, code: int) -> str:
        return self.runtime.hipGetErrorString(code).decode()


def compile_program(target: Path, *archs: str, flags: tuple[str, ...] = ()) -> Path:
    toolchain = hip_tools.toolchain()
    offload = [f"--offload-arch={arch}" for arch in archs]
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-no-hip-rt", *offload, *flags]
    command = [toolchain.compiler, *toolchain.flags, *options, SOURCES / "runtime.hip", "-o", target]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(tmp_path_factory.mktemp("program") / "librun.so", "gfx942", "gfx950")


@pytest.fixture
def program(library: Path) -> Program:
    program = Program(library)
    program.runtime.gfxsim_hip_restrict_memory(0)
    return program


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def floats(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n, dtype=np.float32)


SCALE = np.array([1, -2, 0.5, 4], dtype=np.float32)


def test_kernel_on_host_memory(program: Program) -> None:
    a, b, total = floats(1000, 1), floats(1000, 2), np.full(1000, np.nan, dtype=np.float32)
    assert program.functions.set_scale(pointer(SCALE)) == 0
    assert program.functions.launch_scaled_sum(pointer(a), pointer(b), pointer(total), 1000) == 0
    assert np.array_equal(total, np.tile(SCALE, 250) * (a + b))


def test_device_memory_stream_and_events(program: Program) -> None:
    a, b, total, time = floats(700, 3), floats(700, 4), np.zeros(700, dtype=np.float32), ctypes.c_float(-1)
    program.functions.set_scale(pointer(SCALE))
    arguments = [pointer(array) for array in (a, b, total)]
    assert program.functions.scaled_sum_in_device_memory(*arguments, 700, ctypes.byref(time)) == 0
    assert np.array_equal(total, np.tile(SCALE, 175) * (a + b))
    assert time.value > 0


def test_device_variables_keep_their_value_between_launches(program: Program) -> None:
    before, after = ctypes.c_int(), ctypes.c_int()
    program.functions.count_launches(ctypes.byref(before))
    test_kernel_on_host_memory(program)
    test_kernel_on_host_memory(program)
    program.functions.count_launches(ctypes.byref(after))
    assert after.value == before.value + 2


def test_dynamic_lds(program: Program) -> None:
    numbers, out = np.arange(300, dtype=np.int32), np.zeros(300, dtype=np.int32)
    assert program.functions.launch_reverse(pointer(numbers), pointer(out), 3, 100, 400) == 0
    assert np.array_equal(out, numbers.reshape(3, 100)[:, ::-1].ravel())


def test_missing_lds_is_a_launch_failure_with_the_finding(program: Program) -> None:
    numbers, out = np.arange(128, dtype=np.int32), np.zeros(128, dtype=np.int32)
    code = program.functions.launch_reverse(pointer(numbers), pointer(out), 1, 128, 256)
    assert code == LAUNCH_FAILURE
    text = program.error(code)
    assert text.startswith("hipErrorLaunchFailure: ") and "reverse_in_lds" in text and "ds_write" in text


@pytest.mark.parametrize(
    ("threads", "lds_bytes", "expected", "reason"),
    [
        (129, 1024, INVALID_CONFIGURATION, "allows 128"),
        (0, 1024, INVALID_CONFIGURATION, "empty"),
        (64, 65537, INVALID_VALUE, "65537 bytes of dynamic LDS"),
    ],
)
def test_launches_that_the_hardware_refuses(
    program: Program, threads: int, lds_bytes: int, expected: int, reason: str
) -> None:
    memory = np.zeros(256, dtype=np.int32)
    code = program.functions.launch_reverse(pointer(memory), pointer(memory), 1, threads, lds_bytes)
    assert code == expected and reason in program.error(code)


def test_lds_that_a_block_does_not_have_is_refused_before_the_launch(program: Program) -> None:
    assert program.functions.allow_lds(65536) == 0
    for size in (65537, -1):
        code = program.functions.allow_lds(size)
        text = program.error(code)
        assert code == INVALID_VALUE and "reverse_in_lds" in text and "a block of gfx942 has 65536" in text


def test_restricted_memory(program: Program) -> None:
    """Registered memory alone, to the byte and with its access right."""
    a, b, total = floats(64, 5), floats(64, 6), np.zeros(64, dtype=np.float32)
    runtime, launch = program.runtime, program.functions.launch_scaled_sum
    arguments = [pointer(array) for array in (a, b, total)]

    def register(array: np.ndarray, count: int, writable: int) -> None:
        size = ctypes.c_size_t(4 * count)
        assert runtime.gfxsim_memory_register(pointer(array), size, writable, b"array") == 0

    runtime.gfxsim_hip_restrict_memory(1)
    register(a, 64, 0)
    try:
        for count, writable in ((63, 1), (64, 0)):
            register(total, count, writable)
            register(b, 64, 0)
            assert launch(*arguments, 64) == LAUNCH_FAILURE
            assert "scaled_sum" in program.error(LAUNCH_FAILURE)
            runtime.gfxsim_memory_unregister(pointer(total))
            runtime.gfxsim_memory_unregister(pointer(b))
        register(total, 64, 1)
        assert launch(*arguments, 64) == LAUNCH_FAILURE, "b is not registered"
        register(b, 64, 0)
        assert launch(*arguments, 64) == 0
    finally:
        for array in (a, b, total):
            runtime.gfxsim_memory_unregister(pointer(array))
        runtime.gfxsim_hip_restrict_memory(0)


def test_memory_that_is_not_mapped_is_a_failure_and_no_crash(program: Program) -> None:
    total = np.zeros(64, dtype=np.float32)
    code = program.functions.launch_scaled_sum(pointer(total), ctypes.c_void_p(4096), pointer(total), 64)
    assert code == LAUNCH_FAILURE and "0x1000" in program.error(code)


def test_an_access_beside_device_memory_is_found_in_open_memory_too(program: Program) -> None:
    a, b, out = floats(65, 7), floats(65, 8), ctypes.c_void_p()
    assert program.runtime.hipMalloc(ctypes.byref(out), ctypes.c_size_t(64 * 4)) == 0
    assert program.functions.launch_scaled_sum(pointer(a), pointer(b), out, 64) == 0
    assert program.functions.launch_scaled_sum(pointer(a), pointer(b), out, 65) == LAUNCH_FAILURE
    assert "0 bytes past the end of hipMalloc (256 bytes" in program.error(LAUNCH_FAILURE)
    inside = ctypes.c_void_p(out.value + 4)
    assert program.runtime.hipFree(inside) == INVALID_VALUE and program.runtime.hipFree(out) == 0


def test_a_function_that_is_no_kernel(program: Program) -> None:
    assert program.functions.launch_unregistered() == INVALID_FUNCTION
    assert "no kernel was registered" in program.error(INVALID_FUNCTION)


def test_report_sums_the_launches(program: Program) -> None:
    report = (ctypes.c_uint64 * 64)()
    program.runtime.gfxsim_hip_take_report(report)
    test_dynamic_lds(program)
    test_dynamic_lds(program)
    assert program.runtime.gfxsim_hip_take_report(report) == 2
    blocks, waves, instructions = report[:3]
    assert (blocks, waves) == (6, 12) and instructions > waves


def test_an_architecture_that_is_not_in_the_program(tmp_path: Path) -> None:
    program = Program(compile_program(tmp_path / "libother.so", "gfx950"))
    memory = np.zeros(64, dtype=np.int32)
    code = program.functions.launch_reverse(pointer(memory), pointer(memory), 1, 64, 256)
    assert code == NO_BINARY and "no code object for gfx942; there is: gfx950" in program.error(code)


def test_a_compressed_program(tmp_path: Path) -> None:
    flags = ("--offload-compress",)
    program = Program(compile_program(tmp_path / "libsmall.so", "gfx942", flags=flags))
    memory = np.zeros(64, dtype=np.int32)
    code = program.functions.launch_reverse(pointer(memory), pointer(memory), 1, 64, 256)
    assert code == NO_BINARY and "compressed" in program.error(code)


GFX950_PROGRAM = """
import ctypes, sys
runtime = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
program = ctypes.CDLL(sys.argv[2])
memory = (ctypes.c_int * 64)(*range(64))
assert program.launch_reverse(memory, memory, 1, 64, 100 * 1024) == 0, "160 KiB of LDS"
assert list(memory) == list(range(63, -1, -1))
minor, name = ctypes.c_int(), ctypes.create_string_buffer(64)
assert runtime.hipDeviceGetAttribute(ctypes.byref(minor), 61, 0) == 0
assert runtime.hipDeviceGetName(name, 64, 0) == 0
print(minor.value, name.value.decode())
"""


def test_gfx950(library: Path) -> None:
    command = [sys.executable, "-c", GFX950_PROGRAM, str(simulator.library()), str(library)]
    environment = os.environ | {"GFX942_SIM_ARCH": "gfx950"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "5 gfx950 simulated on the CPU\n", done.stderr


def test_values_of_the_interface_are_those_of_the_headers() -> None:
    toolchain = hip_tools.toolchain()
    tool = Path(__file__).resolve().parents[2] / "tools" / "gfx942_sim"
    options = ["-std=c++17", "-fsyntax-only", "--cuda-host-only", f"-I{tool}"]
    subprocess.run([toolchain.compiler, *toolchain.flags, *options, SOURCES / "hip_abi_check.hip"], check=True)
