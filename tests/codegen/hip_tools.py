"""The compiler for AMD GPUs, for tests: what the machine has, or what cmake/hip_toolchain.py can set up."""

from __future__ import annotations

import functools
import os

import pytest

import hip_toolchain


@functools.cache
def found() -> hip_toolchain.Toolchain | str:
    """The toolchain, set up if need be, or why there is none."""
    try:
        return hip_toolchain.set_up()
    except hip_toolchain.ToolchainError as reason:
        return str(reason)


def toolchain() -> hip_toolchain.Toolchain:
    """Skips the calling test without a toolchain; in CI, where one can be set up, that is an error."""
    answer = found()
    if isinstance(answer, str):
        assert "CI" not in os.environ, f"no compiler for AMD GPUs in CI: {answer}"
        pytest.skip(f"no compiler for AMD GPUs: {answer}")
    return answer
