"""vmap: the mapped axis joins the batch, so that one call serves all examples.

Where that cannot be, the examples run one after the other: dropout, since each example draws from the same state as it
would alone, and sinks or slopes [h] of their own, or their gradients, since a call has one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from portattn.common.config import FORWARD
from portattn_jax.problem import BROADCASTABLE, Problem, dims_of

Call = Callable[..., tuple[jax.Array, ...]]


def batch(
    call: Call, direction: int, problem: Problem, operands: tuple[jax.Array, ...], mapped: Sequence[bool]
) -> tuple[jax.Array, ...]:
    """Results for all examples, along axis 0, as it is for those operands that are mapped."""
    if not _can_join(direction, problem, operands, mapped):
        return _one_by_one(call, operands, mapped)
    examples = next(array.shape[0] for array, is_mapped in zip(operands, mapped, strict=True) if is_mapped)
    names = problem.operand_names(direction)
    rows = {
        name: _batch_of_one(problem, name, array, is_mapped)
        for name, array, is_mapped in zip(names, operands, mapped, strict=True)
    }
    sizes = (examples, rows[names[0]])
    results = call(
        *(
            _join(direction, problem, name, array, is_mapped, sizes)
            for name, array, is_mapped in zip(names, operands, mapped, strict=True)
        )
    )
    return tuple(
        _split(problem, name, result, examples, sum_batch=name == "dbias" and rows["bias"] < sizes[1])
        for name, result in zip(problem.result_names(direction), results, strict=True)
    )


def _can_join(direction: int, problem: Problem, operands: tuple[jax.Array, ...], mapped: Sequence[bool]) -> bool:
    names = problem.operand_names(direction)
    if "rng_state" in names or (direction != FORWARD and "softmax_offset" in names):
        return False
    return all(
        not is_mapped or "b" in dims_of(problem.layout, name, array.ndim - 1)
        for name, array, is_mapped in zip(names, operands, mapped, strict=True)
    )


def _batch_of_one(problem: Problem, name: str, array: jax.Array, is_mapped: bool) -> int:
    """Size of the batch dimension of one example; 1 for an operand without one."""
    dims = dims_of(problem.layout, name, array.ndim - is_mapped)
    return array.shape[dims.index("b") + is_mapped] if "b" in dims else 1


def _join(
    direction: int, problem: Problem, name: str, array: jax.Array, is_mapped: bool, sizes: tuple[int, int]
) -> jax.Array:
    """The operand with the examples inside its batch dimension. `sizes`: examples, and the batch of each."""
    dims = dims_of(problem.layout, name, array.ndim - is_mapped)
    if "b" not in dims:
        return array
    at = dims.index("b")
    if is_mapped:
        array = jnp.moveaxis(array, 0, at)
    else:
        has_gradient = direction != FORWARD and name == "bias" and problem.bias_grad
        if name in BROADCASTABLE and array.shape[at] == 1 and not has_gradient:
            return array
        array = jnp.expand_dims(array, at)
    array = jnp.broadcast_to(array, (*array.shape[:at], *sizes, *array.shape[at + 2 :]))
    return array.reshape(*array.shape[:at], -1, *array.shape[at + 2 :])


def _split(problem: Problem, name: str, result: jax.Array, examples: int, sum_batch: bool) -> jax.Array:
    """Undoes _join; `sum_batch` adds up what one example shares."""
    at = dims_of(problem.layout, name, result.ndim).index("b")
    result = result.reshape(*result.shape[:at], examples, -1, *result.shape[at + 1 :])
    if sum_batch:
        result = result.sum(at + 1, keepdims=True, dtype=jnp.promote_types(result.dtype, jnp.float32)).astype(
            result.dtype
        )
    return jnp.moveaxis(result, at, 0)


def _one_by_one(call: Call, operands: tuple[jax.Array, ...], mapped: Sequence[bool]) -> tuple[jax.Array, ...]:
    def one(example: list[jax.Array]) -> tuple[jax.Array, ...]:
        rest = iter(example)
        return call(*(next(rest) if is_mapped else array for array, is_mapped in zip(operands, mapped, strict=True)))

    return jax.lax.map(one, [array for array, is_mapped in zip(operands, mapped, strict=True) if is_mapped])
