"""`python -m portattn.info`: versions, libraries and devices, for a person with a question and for bug reports."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from importlib import metadata

from portattn import __version__
from portattn.common.library import (
    CORE_LIBRARY,
    JAX_LIBRARY,
    TORCH_LIBRARY,
    LibraryError,
    core_version,
    describe_devices,
    library_path,
)


def _torch_lines() -> list[str]:
    if importlib.util.find_spec("torch") is None:
        return ["torch      not installed: pip install torch, then import portattn.pytorch"]
    torch = importlib.import_module("torch")
    toolkits = [
        f"{name} {version}" for name, version in (("CUDA", torch.version.cuda), ("HIP", torch.version.hip)) if version
    ]
    built_for = " ".join(toolkits) or "CPU"
    lines = [f"torch      {torch.__version__} (built for {built_for}, {torch.get_num_threads()} CPU threads)"]
    try:
        importlib.import_module("portattn.pytorch")
        lines.append(f"torch ops  loaded from {library_path(TORCH_LIBRARY)}")
    except ImportError as error:
        lines.append(f"torch ops  not loaded: {error}")
    return lines


def _jax_lines() -> list[str]:
    """Without importing jax, which takes seconds and memory of every GPU."""
    if importlib.util.find_spec("jax") is None:
        return ["jax        not installed: pip install jax, then import portattn_jax"]
    lines = [f"jax        {metadata.version('jax')}"]
    try:
        lines.append(f"jax calls  in {library_path(JAX_LIBRARY)}")
    except LibraryError as error:
        lines.append(f"jax calls  not there: {error}")
    return lines


def info() -> str:
    """The text that `python -m portattn.info` prints."""
    lines = [f"portattn   {__version__}", f"python     {sys.version.split()[0]} on {platform.platform()}"]
    try:
        lines.append(f"C API      {core_version()} from {library_path(CORE_LIBRARY)}")
        lines += [f"device     {line}" for line in describe_devices().splitlines()]
    except LibraryError as error:
        lines.append(f"C API      not loaded: {error}")
    return "\n".join(lines + _torch_lines() + _jax_lines())


def main() -> None:
    print(info())


if __name__ == "__main__":
    main()
