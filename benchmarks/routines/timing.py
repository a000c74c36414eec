"""Timing of several implementations side by side: alternating run by run, medians, spread.

On a GPU every run starts with a cold L2 (a buffer larger than the cache is written first) and behind a spinning kernel
that holds the stream until the host has enqueued the whole call, so that events see device time without launch gaps.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

WARMUP_RUNS = 3
FLUSH_BYTES = 256 << 20
SPIN_CYCLES_PER_US = 2000  # at 2 GHz; a slower clock only holds the stream longer
MIN_CPU_RUN_S = 2e-3

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Times of one implementation in milliseconds, in the order they were taken."""

    samples_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.samples_ms)

    @property
    def spread(self) -> float:
        """Half of the interquartile range, as a share of the median."""
        if len(self.samples_ms) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.samples_ms, n=4, method="inclusive")
        return 0.5 * (third - first) / self.median_ms


def speed_ratio(ours: Timing, peer: Timing) -> float:
    """How many times faster than the peer: median over rounds of the two times taken next to each other."""
    return statistics.median(p / o for o, p in zip(ours.samples_ms, peer.samples_ms, strict=True))


def fastest(timings: dict[str, Timing]) -> str:
    return min(timings, key=lambda name: timings[name].median_ms)


class CudaTimer:
    """Device time of one call on the current stream."""

    def __init__(self) -> None:
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        self._hold_us = 100.0

    def calibrate(self, calls: list[Call]) -> None:
        """Warms every call up and learns how long the host needs to enqueue the slowest of them."""
        slowest_us = 0.0
        for call in calls:
            for _ in range(WARMUP_RUNS):
                call()
            torch.cuda.synchronize()
            began = time.perf_counter()
            call()
            slowest_us = max(slowest_us, 1e6 * (time.perf_counter() - began))
            torch.cuda.synchronize()
        self._hold_us = min(max(2.0 * slowest_us, 50.0), 2000.0)

    def measure(self, call: Call) -> float:
        self._flush.zero_()
        torch.cuda._sleep(int(self._hold_us * SPIN_CYCLES_PER_US))
        self._start.record()
        call()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end)


class KernelTimer:
    """Time of the kernels of one call, whichever framework of the process enqueues them and on whichever stream: what
    the profiler has recorded. Gaps between kernels do not count."""

    def __init__(self) -> None:
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")

    def calibrate(self, calls: list[Call]) -> None:
        for call in calls:
            for _ in range(WARMUP_RUNS):
                call()
            self.measure(call)  # the first recording sets the profiler up

    def measure(self, call: Call) -> float:
        return sum(self.kernels_ms(call).values())

    def kernels_ms(self, call: Call) -> dict[str, float]:
        """By name."""
        self._flush.zero_()
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recording:
            call()
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for event in recording.events():
            if event.device_type == torch.autograd.DeviceType.CUDA:
                found[event.name] = found.get(event.name, 0.0) + 1e-3 * event.time_range.elapsed_us()
        if not found:
            raise RuntimeError("the profiler recorded no kernel; does it have access to the device's counters?")
        return found


class CpuTimer:
    """Wall time of one call; short calls are repeated until the clock's own cost is lost in them."""

    def __init__(self) -> None:
        self._repeats = 1

    def calibrate(self, calls: list[Call]) -> None:
        fastest_s = math.inf
        for call in calls:
            for _ in range(WARMUP_RUNS):
                began = time.perf_counter()
                call()
                fastest_s = min(fastest_s, time.perf_counter() - began)
        self._repeats = max(1, math.ceil(MIN_CPU_RUN_S / fastest_s))

    def measure(self, call: Call) -> float:
        began = time.perf_counter()
        for _ in range(self._repeats):
            call()
        return 1e3 * (time.perf_counter() - began) / self._repeats


def make_timer(device: str) -> CudaTimer | CpuTimer:
    return CudaTimer() if device == "cuda" else CpuTimer()


def alternate(
    calls: dict[str, Call], timer: CudaTimer | KernelTimer | CpuTimer, rounds: int, halfway: Call | None = None
) -> dict[str, Timing]:
    """Times the calls in turn, `rounds` times, each round starting with another one.

    `halfway` runs once in the middle, while the device is under load: the place to read its clocks.
    """
    names = list(calls)
    timer.calibrate(list(calls.values()))
    samples: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for round_index in range(rounds):
            if halfway is not None and round_index == rounds // 2:
                halfway()
            first = round_index % len(names)
            for name in names[first:] + names[:first]:
                samples[name].append(timer.measure(calls[name]))
    finally:
        gc.enable()
    return {name: Timing(tuple(values)) for name, values in samples.items()}
