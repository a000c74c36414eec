"""The tolerance rule of every numerical test: the error against float64 may be twice that of an eager PyTorch run in
the same dtype, plus a floor relative to the largest reference value.
"""

from __future__ import annotations

import torch

# float64 is for gradient checks: the scale, lse and delta that its kernels work with are float32.
FLOORS = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def max_error(actual: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference; equal infinities differ by 0, and anything unequal that is not finite by infinity."""
    actual, reference = actual.detach().double(), reference.detach().double()
    difference = (actual - reference).abs()
    difference = difference.masked_fill(actual == reference, 0.0).nan_to_num(nan=torch.inf)
    return float(difference.max()) if difference.numel() else 0.0


def magnitude(reference: torch.Tensor) -> float:
    """Largest finite absolute value."""
    finite = reference.detach()[reference.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def assert_close(
    name: str,
    actual: torch.Tensor,
    reference: torch.Tensor,
    eager: torch.Tensor,
    dtype: torch.dtype,
    terms: float = 0.0,
) -> None:
    """Checks one tensor. `terms`, the size of what is added up in it, stands in for max |reference| where the terms
    cancel altogether."""
    assert actual.shape == reference.shape, f"{name}: shape {tuple(actual.shape)}, expected {tuple(reference.shape)}"
    error, eager_error = max_error(actual, reference), max_error(eager, reference)
    assert eager_error < float("inf"), f"{name}: the eager run is not finite where float64 is, so nothing is tested"
    size = magnitude(reference)
    allowed = 2 * eager_error + FLOORS[dtype] * (size if size > 1e-6 * terms else terms)
    if error <= allowed:
        return
    where = (actual.double() - reference.double()).abs().nan_to_num(nan=torch.inf).flatten().argmax()
    index = tuple(int(i) for i in torch.unravel_index(where, actual.shape))
    raise AssertionError(
        f"{name}: max error {error:.3e} > allowed {allowed:.3e} (eager {eager_error:.3e}, max |ref| "
        f"{size:.3e}) at {index}: got {float(actual[index])}, expected {float(reference[index])}"
    )
