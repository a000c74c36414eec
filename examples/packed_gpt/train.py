"""One training run: the same model, optimizer and documents whatever shape the batches have."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from packed_gpt.batches import PackedBatch, PaddedBatch
from packed_gpt.model import GPT, ModelConfig


@dataclass(frozen=True)
class TrainConfig:
    model: ModelConfig
    learning_rate: float
    device: torch.device
    dtype: torch.dtype  # of the matrix products; weights are always float32
    seed: int


@dataclass(frozen=True)
class RunResult:
    losses: list[float]  # one a step
    tokens_per_second: float  # real tokens, first step left out
    peak_memory_bytes: int | None  # above what was in use before the run; None where it cannot be measured


def train(
    config: TrainConfig,
    document_batches: list[list[bytes]],
    batch_type: type[PackedBatch] | type[PaddedBatch],
    on_step: Callable[[int, torch.Tensor], None],
) -> RunResult:
    """Trains a fresh model, one step a batch, and calls on_step(step, loss) after each. Reading that loss waits."""
    memory = PeakMemory(config.device)
    torch.manual_seed(config.seed)
    model = GPT(config.model).to(config.device)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        config.learning_rate,
        total_steps=len(document_batches) + 1,
        pct_start=0.1,
        div_factor=5,
        cycle_momentum=False,
    )
    losses = []
    for step, documents in enumerate(document_batches):
        if step == 1:  # the first step also allocates and warms up
            start = synchronized_time(config.device)
        batch = batch_type.of(documents, config.device)
        with torch.autocast(config.device.type, config.dtype, enabled=config.dtype != torch.float32):
            loss = model(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.detach())
        on_step(step, losses[-1])
    seconds = synchronized_time(config.device) - start
    timed_tokens = sum(len(document) for documents in document_batches[1:] for document in documents)
    return RunResult(torch.stack(losses).tolist(), timed_tokens / seconds, memory.peak_bytes())


def synchronized_time(device: torch.device) -> float:
    """Seconds, after everything that was started on the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class PeakMemory:
    """The most memory in use at once since construction, less what was in use then.

    On a GPU this is what torch's allocator handed out, on Linux the process's resident memory.
    """

    _STATUS = Path("/proc/self/status")
    _CLEAR_REFS = Path("/proc/self/clear_refs")

    def __init__(self, device: torch.device):
        self._device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            self._before = self._reset_resident_peak()

    def peak_bytes(self) -> int | None:
        if self._before is None:
            return None
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return self._resident_peak() - self._before

    def _reset_resident_peak(self) -> int | None:
        return_free_memory = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library
        if return_free_memory:
            return_free_memory(0)  # what an earlier run left behind would hide what this one takes
        try:
            self._CLEAR_REFS.write_text("5")  # see proc(5): resets the peak to what is resident now
        except OSError:  # not Linux, or a sandbox that forbids it
            return None
        return self._resident_peak()

    def _resident_peak(self) -> int:
        line = next(line for line in self._STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
