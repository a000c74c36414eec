"""Attention with its gradient: forward and backward call tied together by a custom_vjp.

The residuals are the operands, o and lse; the last two carry a checkpoint name, so that a policy of jax.checkpoint can
keep them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from portattn.common.config import BACKWARD, FORWARD
from portattn_jax.primitives.fused_attn import fused_attn_call
from portattn_jax.problem import Problem

GRADIENT_OF = {f"d{name}": name for name in ("qkv", "kv", "q", "k", "v", "bias")} | {
    "d_softmax_offset": "softmax_offset"
}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _BiasGrad:
    """A residual that is known while tracing."""

    wanted: bool


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attention(problem: Problem, name: str, operands: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
    """o, and with problem.training lse, which carries no gradient. `operands` are those of `problem`, in any order;
    `name` is for the policies of jax.checkpoint."""
    return fused_attn_call(FORWARD, problem, *_in_order(problem, operands))


def _in_order(problem: Problem, operands: dict[str, jax.Array]) -> list[jax.Array]:
    return [operands[name] for name in problem.operands]


def _attention_fwd(problem: Problem, name: str, operands: dict[str, Any]) -> tuple[tuple[jax.Array, ...], tuple]:
    """Operands come with whether they are differentiated: a bias that is not costs no gradient."""
    values = {name: operand.value for name, operand in operands.items()}
    training = dataclasses.replace(problem, training=True)
    outputs = fused_attn_call(FORWARD, training, *_in_order(problem, values))
    o, lse = (checkpoint_name(output, name) for output in outputs)
    bias_grad = _BiasGrad("bias" in operands and bool(operands["bias"].perturbed))
    return (o, lse) if problem.training else (o,), (values, o, lse, bias_grad)


def _attention_bwd(problem: Problem, name: str, residuals: tuple, cotangents: Sequence[Any]) -> tuple[dict[str, Any]]:
    operands, o, lse, bias_grad = residuals
    gradients: dict[str, Any] = dict.fromkeys(operands)
    d_o = cotangents[0]
    if not isinstance(d_o, SymbolicZero):
        problem = dataclasses.replace(problem, training=True, bias_grad=bias_grad.wanted)
        results = fused_attn_call(BACKWARD, problem, *_in_order(problem, operands), o, lse, d_o)
        for result_name, result in zip(problem.result_names(BACKWARD), results, strict=True):
            gradients[GRADIENT_OF[result_name]] = result
    return (gradients,)


attention.defvjp(_attention_fwd, _attention_bwd, symbolic_zeros=True)
