"""Where and with what a run was made: commit, processor or GPU, versions, and the clocks while the device was busy."""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
CLOCK_FIELDS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")


def describe(commit: str | None) -> dict[str, Any]:
    """Everything about this machine that a figure depends on."""
    return {
        "commit": commit or git_commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "cpu": cpu_name(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if importlib.util.find_spec("portattn") is not None:
        found["portattn"] = importlib.import_module("portattn").__version__
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())
        driver = _nvidia_smi("driver_version")
        if driver:
            found["driver"] = driver[0]
    return found


def git_commit() -> str:
    """Short hash of the checkout, marked when tracked files differ from it; 'unknown' outside a checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu_name() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


class ClockReader:
    """Reads GPU clocks, power and temperature beside the running work, without making it wait."""

    def __init__(self, device: str) -> None:
        self._wanted = device == "cuda" and shutil.which("nvidia-smi") is not None
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        if self._wanted:
            self._process = subprocess.Popen(
                _nvidia_smi_command(*CLOCK_FIELDS), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )

    def result(self) -> dict[str, str] | None:
        if self._process is None:
            return None
        try:
            output, _ = self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return None
        values = [value.strip() for value in output.splitlines()[0].split(",")] if output.strip() else []
        return dict(zip(CLOCK_FIELDS, values, strict=False)) or None


def _nvidia_smi(*fields: str) -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        answer = subprocess.run(_nvidia_smi_command(*fields), capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [value.strip() for value in answer.stdout.splitlines()[0].split(",")] if answer.stdout.strip() else []


def _nvidia_smi_command(*fields: str) -> list[str]:
    device = str(torch.cuda.current_device())
    return ["nvidia-smi", f"--id={device}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
