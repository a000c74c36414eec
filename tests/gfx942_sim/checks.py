"""Comparisons of what a simulated kernel left in its arrays with what numpy makes of the same inputs."""

from __future__ import annotations

import numpy as np
import torch

LANES = np.arange(64)


def same(got: np.ndarray, want: np.ndarray, what: str = "") -> None:
    """Equal, and NaN where NaN is wanted."""
    np.testing.assert_array_equal(got, np.asarray(want).astype(got.dtype), err_msg=what)


def near(got: np.ndarray, want: np.ndarray, tolerance: float, what: str = "") -> None:
    """Within tolerance * (1 + |want|)."""
    want = np.asarray(want, np.float64)
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=tolerance, atol=tolerance, err_msg=what)


def rounded(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The bits of `values` in a type that numpy lacks, rounded by PyTorch."""
    bits = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    unsigned = {1: np.uint8, 2: np.uint16}[dtype.itemsize]
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype).view(bits).numpy().view(unsigned)


def widened(bits: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The values that `bits` stand for in a type that numpy lacks."""
    signed = {1: np.uint8, 2: np.int16}[dtype.itemsize]
    return torch.from_numpy(bits.view(signed).copy()).view(dtype).to(torch.float64).numpy()
