"""Loads the torch operators of python/csrc/torch_ops.cpp and tells torch what they return, for tracing and autograd.

Eager calls get their gradient from a torch.autograd.Function, which costs less per call than a formula registered on an
operator. torch.compile traces the operator `fused_attn`, which has that formula: unlike an autograd.Function it may be
given one tensor twice (k and v, or both cu_seqlens).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from portattn.common.enums import QKV_FORMATS, ConfigAttr
from portattn.common.library import TORCH_LIBRARY, LibraryError, library_path

MIN_TORCH = (2, 11)

# The forward's arguments in schema order: q, k, v, bias, softmax_offset | ... rng_state | attrs ... with_lse.
NUM_DIFFERENTIABLE = 5
NUM_TENSORS = 12
NUM_ARGUMENTS = 19


def _load() -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < MIN_TORCH:
        needed = ".".join(map(str, MIN_TORCH))
        raise LibraryError(f"portattn.pytorch needs torch {needed} or newer, found {torch.__version__}")
    path = library_path(TORCH_LIBRARY)
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise LibraryError(f"{path} does not load into torch {torch.__version__}: {error}") from error


_load()

fused_attn = torch.ops.portattn.fused_attn.default
fused_attn_fwd = torch.ops.portattn.fused_attn_fwd.default
fused_attn_bwd = torch.ops.portattn.fused_attn_bwd.default
fused_attn_explain = torch.ops.portattn.fused_attn_explain.default


def _attr(attrs: tuple[int, ...], attr: ConfigAttr, default: int) -> int:
    """The value of `attr` in the alternating list that the operators take."""
    for name, value in zip(attrs[::2], attrs[1::2], strict=True):
        if name == attr:
            return value
    return default


def _lse_shape(q: torch.Tensor, attrs: tuple[int, ...]) -> tuple[int, ...]:
    qkv_format = _attr(attrs, ConfigAttr.Q_FORMAT, QKV_FORMATS["bshd"])
    if qkv_format == QKV_FORMATS["thd"]:
        return q.shape[:2]
    if qkv_format == QKV_FORMATS["bhsd"]:
        return q.shape[:3]
    if qkv_format == QKV_FORMATS["sbhd"]:
        return (q.shape[1], q.shape[2], q.shape[0])
    return (q.shape[0], q.shape[2], q.shape[1])


@torch.library.register_fake("portattn::fused_attn")
@torch.library.register_fake("portattn::fused_attn_fwd")
def _fused_attn_fwd_fake(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
    attrs, with_lse = rest[9], rest[-1]
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    return out, q.new_empty(_lse_shape(q, attrs) if with_lse else (0,), dtype=torch.float32)


@torch.library.register_fake("portattn::fused_attn_bwd")
def _fused_attn_bwd_fake(
    d_o: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor | None,
    softmax_offset: torch.Tensor | None,
    *rest: Any,
) -> tuple[torch.Tensor, ...]:
    with_dbias = bias is not None and _attr(rest[7], ConfigAttr.BIAS_GRAD, 0)
    return (
        q.new_empty(q.shape),
        k.new_empty(k.shape),
        v.new_empty(v.shape),
        bias.new_empty(bias.shape) if with_dbias else q.new_empty(0, dtype=torch.float32),
        q.new_empty(0 if softmax_offset is None else softmax_offset.shape, dtype=torch.float32),
    )


def _keep_for_backward(ctx: Any, problem: tuple[Any, ...], out: torch.Tensor, lse: torch.Tensor) -> None:
    ctx.save_for_backward(out, lse, *problem[:NUM_TENSORS])
    ctx.settings = problem[NUM_TENSORS:]
    ctx.mark_non_differentiable(lse)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, d_o: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """Of q, k, v, bias and softmax_offset, the first arguments."""
    if d_o is None:
        return (None,) * NUM_DIFFERENTIABLE
    out, lse, *tensors = ctx.saved_tensors
    dq, dk, dv, dbias, d_softmax_offset = fused_attn_bwd(d_o, out, lse, *tensors, *ctx.settings)
    wants_dbias, wants_d_softmax_offset = ctx.needs_input_grad[3:NUM_DIFFERENTIABLE]
    return dq, dk, dv, dbias if wants_dbias else None, d_softmax_offset if wants_d_softmax_offset else None


class FusedAttention(torch.autograd.Function):
    """The eager forward with its gradient. Takes the operator's arguments without `with_lse`, those that have no
    gradient in one tuple, since every argument of an autograd.Function costs time; returns out and lse."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        problem = arguments[:-1] + arguments[-1]
        out, lse = fused_attn_fwd(*problem, True)
        _keep_for_backward(ctx, problem, out, lse)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_o: torch.Tensor | None, _: None) -> tuple[torch.Tensor | None, ...]:
        return (*_gradients(ctx, d_o), None)


def fused_attn_with_grad(problem: tuple[Any, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The eager call that records a gradient."""
    return FusedAttention.apply(*problem[:NUM_DIFFERENTIABLE], problem[NUM_DIFFERENTIABLE:])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    _keep_for_backward(ctx, inputs[:-1], *output)


def _backward(ctx: Any, d_o: torch.Tensor | None, _: None) -> tuple[torch.Tensor | None, ...]:
    return _gradients(ctx, d_o) + (None,) * (NUM_ARGUMENTS - NUM_DIFFERENTIABLE)


torch.library.register_autograd("portattn::fused_attn", _backward, setup_context=_setup_context)
