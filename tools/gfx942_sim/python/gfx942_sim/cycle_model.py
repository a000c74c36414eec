"""Predicts how many cycles a block takes on one compute unit of an MI300X, from what its waves executed.

    waves = traced(kernel, (1, 1), (512,), params)       # instruction texts of each wave of a block
    print(predict(waves).matrix_utilisation)

In-order waves compete for the pipes of their SIMD (vector issue, matrix cores) and of the compute unit (LDS, memory).
Waits, barriers and s_nop count as the code has them; registers are not tracked, because on this machine the compiler
keeps hazards apart with s_nop. What the model leaves out: bank conflicts, cache misses beyond one fixed latency,
instruction fetch, other blocks, and the clock, which sustained matrix work lowers.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from gfx942_sim import Event, Kernel

SIMDS = 4
SLOT = 4  # cycles between two instructions of a wave
LANES = 64


@dataclass(frozen=True)
class Machine:
    """Costs in cycles. Rates are AMD's (CDNA3 ISA and white paper); latencies are estimates, and said to be so."""

    vector: int = 4  # 64 lanes on 16
    double: int = 8
    transcendental: int = 16  # a quarter of the rate
    lds_bytes: int = 128  # a cycle, of the compute unit
    memory_bytes: int = 64
    lds_latency: int = 100  # estimate
    memory_latency: int = 800  # estimate: L2 under load
    scalar_latency: int = 200  # estimate
    barrier: int = 24  # estimate: from the last arrival to the first instruction after
    branch: int = 16  # estimate: a taken one
    lds_queue: int = 15  # what lgkmcnt and vmcnt can count
    memory_queue: int = 63


@dataclass(frozen=True)
class Op:
    """What the model knows of an instruction."""

    kind: str
    cycles: int = 0  # on its pipe
    lgkm: int | None = None  # of a wait: how many may be left
    vm: int | None = None


# Passes of four cycles: LLVM's scheduling model of gfx942.
PASSES = {"32x32x8": 8, "16x16x16": 4, "32x32x16": 8, "16x16x32": 4, "4x4x4": 2, "32x32x2": 16, "16x16x4": 8}
TRANSCENDENTAL = re.compile(r"v_(exp|log|rcp|rsq|sqrt|sin|cos)_")
BYTES = {"b8": 1, "u8": 1, "i8": 1, "b16": 2, "u16": 2, "b32": 4, "b64": 8, "b96": 12, "b128": 16}
WIDTHS = {"dword": 4, "dwordx2": 8, "dwordx3": 12, "dwordx4": 16}


@cache
def decode(text: str, machine: Machine) -> Op:
    name = text.split(None, 1)[0]
    if name.startswith("v_mfma"):
        shape = re.search(r"_(\d+x\d+x\d+)", name)
        if shape is None or shape[1] not in PASSES:
            raise ValueError(f"no cost known for {name}: add its shape to PASSES")
        return Op("matrix", PASSES[shape[1]] * 4)
    if name.startswith("v_"):
        return Op("vector", _vector_cycles(name, machine))
    if name.startswith("ds_"):
        return Op("lds", max(1, LANES * _lds_bytes(name) // machine.lds_bytes))
    if name.startswith(("buffer_", "global_", "flat_", "scratch_")):
        width = next((WIDTHS[part] for part in name.split("_") if part in WIDTHS), 4)
        return Op("memory", LANES * width // machine.memory_bytes)
    if name == "s_waitcnt":
        return Op("wait", lgkm=_count(text, "lgkmcnt"), vm=_count(text, "vmcnt"))
    if name == "s_nop":
        return Op("nop", (int(text.split()[1], 0) + 1) * SLOT)
    if name in ("s_barrier", "s_setprio"):
        return Op(name.removeprefix("s_"), int(text.split()[1]) if name == "s_setprio" else 0)
    if name.startswith(("s_load", "s_buffer_load")):
        return Op("scalar_load")
    return Op("branch" if name.startswith(("s_branch", "s_cbranch")) else "scalar")


def _vector_cycles(name: str, machine: Machine) -> int:
    if TRANSCENDENTAL.match(name):
        return machine.transcendental
    return machine.double if "_f64" in name or name.startswith("v_mad_u64") else machine.vector


def _lds_bytes(name: str) -> int:
    size = next((BYTES[part] for part in name.split("_") if part in BYTES), 4)
    return size * (2 if "read2" in name or "write2" in name else 1)


def _count(text: str, counter: str) -> int | None:
    found = re.search(rf"{counter}\((\d+)\)", text)
    return int(found[1]) if found else None


@dataclass
class Wave:
    ops: list[Op]
    simd: int
    next: int = 0  # the instruction that is due
    time: int = 0  # from when on it may issue
    priority: int = 0
    lds: deque[int] = field(default_factory=deque)  # when its outstanding operations are done
    memory: deque[int] = field(default_factory=deque)
    at_barrier: bool = False

    @property
    def done(self) -> bool:
        return self.next == len(self.ops)


@dataclass(frozen=True)
class Prediction:
    cycles: int
    busy: dict[str, int]  # pipe -> cycles in use, over all SIMDs
    stalls: dict[str, int]  # reason -> cycles that waves waited

    @property
    def matrix_utilisation(self) -> float:
        return self.busy["matrix"] / (SIMDS * self.cycles)

    def __sub__(self, shorter: Prediction) -> Prediction:
        """What the longer run does beyond the shorter one: the steady state of a loop."""
        busy = {pipe: cycles - shorter.busy[pipe] for pipe, cycles in self.busy.items()}
        stalls = {reason: cycles - shorter.stalls.get(reason, 0) for reason, cycles in self.stalls.items()}
        return Prediction(self.cycles - shorter.cycles, busy, stalls)


class ComputeUnit:
    """Lets the wave that can issue first do so, until all have ended."""

    def __init__(self, waves: Sequence[Iterable[str]], machine: Machine) -> None:
        self.machine = machine
        self.waves = [Wave([decode(text, machine) for text in texts], i % SIMDS) for i, texts in enumerate(waves)]
        self.vector_free = [0] * SIMDS
        self.matrix_free = [0] * SIMDS
        self.lds_free = 0
        self.memory_free = 0
        self.busy: Counter[str] = Counter(vector=0, matrix=0, lds=0, memory=0)
        self.stalls: Counter[str] = Counter()

    def run(self) -> Prediction:
        while running := [wave for wave in self.waves if not wave.done]:
            ready = [wave for wave in running if not wave.at_barrier]
            if not ready:
                self._open_barrier(running)
                continue
            times = {id(wave): self._issue_time(wave) for wave in ready}
            wave = min(ready, key=lambda each: (times[id(each)], -each.priority))
            self._issue(wave, times[id(wave)])
        ends = [max([wave.time, *wave.lds, *wave.memory]) for wave in self.waves]
        return Prediction(max(ends), dict(self.busy), dict(self.stalls))

    def _open_barrier(self, waiting: list[Wave]) -> None:
        opens = max(wave.time for wave in waiting) + self.machine.barrier
        for wave in waiting:
            self.stalls["barrier"] += opens - wave.time
            wave.time, wave.at_barrier = opens, False
            wave.next += 1

    def _issue_time(self, wave: Wave) -> int:
        op, simd = wave.ops[wave.next], wave.simd
        if op.kind == "vector":
            return max(wave.time, self.vector_free[simd])
        if op.kind == "matrix":
            return max(wave.time, self.vector_free[simd], self.matrix_free[simd])
        if op.kind in ("lds", "scalar_load"):
            return max(wave.time, _when_left(wave.lds, self.machine.lds_queue - 1))
        if op.kind == "memory":
            return max(wave.time, _when_left(wave.memory, self.machine.memory_queue - 1))
        if op.kind == "wait":
            return max(wave.time, _when_left(wave.lds, op.lgkm), _when_left(wave.memory, op.vm))
        return wave.time

    def _issue(self, wave: Wave, now: int) -> None:
        op = wave.ops[wave.next]
        self.stalls[op.kind] += now - wave.time
        if op.kind == "barrier":
            wave.time, wave.at_barrier = now, True
            return
        wave.next += 1
        wave.time = now + SLOT
        handler = getattr(self, f"_do_{op.kind}", None)
        if handler is not None:
            handler(wave, op, now)

    def _do_vector(self, wave: Wave, op: Op, now: int) -> None:
        self.vector_free[wave.simd] = now + op.cycles
        self.busy["vector"] += op.cycles

    def _do_matrix(self, wave: Wave, op: Op, now: int) -> None:
        self._do_vector(wave, Op("vector", SLOT), now)
        self.matrix_free[wave.simd] = now + op.cycles
        self.busy["matrix"] += op.cycles

    def _do_lds(self, wave: Wave, op: Op, now: int) -> None:
        self.lds_free = max(self.lds_free, now) + op.cycles
        self.busy["lds"] += op.cycles
        wave.lds.append(self.lds_free + self.machine.lds_latency)

    def _do_memory(self, wave: Wave, op: Op, now: int) -> None:
        self.memory_free = max(self.memory_free, now) + op.cycles
        self.busy["memory"] += op.cycles
        wave.memory.append(self.memory_free + self.machine.memory_latency)

    def _do_scalar_load(self, wave: Wave, op: Op, now: int) -> None:
        wave.lds.append(now + self.machine.scalar_latency)

    def _do_nop(self, wave: Wave, op: Op, now: int) -> None:
        wave.time = now + op.cycles

    def _do_setprio(self, wave: Wave, op: Op, now: int) -> None:
        wave.priority = op.cycles

    def _do_branch(self, wave: Wave, op: Op, now: int) -> None:
        wave.time = now + self.machine.branch


def _when_left(queue: deque[int], left: int | None) -> int:
    """When at most `left` of the operations, which end in order, are outstanding."""
    return queue[len(queue) - 1 - left] if left is not None and len(queue) > left else 0


def predict(waves: Sequence[Iterable[str]], machine: Machine | None = None) -> Prediction:
    """For a block whose waves executed these instructions, alone on a compute unit; wave i runs on SIMD i % 4."""
    return ComputeUnit(waves, machine or Machine()).run()


def traced(
    kernel: Kernel, grid: Sequence[int], block: Sequence[int], *arguments: Any, **options: Any
) -> list[list[str]]:
    """Runs a kernel and returns what each wave of its first block executed."""
    waves: list[list[str]] = [[] for _ in range(-(-block[0] // LANES))]

    def keep(event: Event) -> None:
        if event.block == (0, 0, 0):
            waves[event.wave].append(event.text)

    kernel(grid, block, *arguments, trace=keep, **options)
    return waves
