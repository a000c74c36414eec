"""One attention call on global arrays: vmap widens it, the partitioner splits it over a mesh (sharding.py), shard_map
leaves it alone, and eager code compiles it once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning

from portattn_jax import sharding
from portattn_jax.primitives.batching import batch
from portattn_jax.primitives.local import attention_on_one_device
from portattn_jax.problem import Problem

_partitioned = custom_partitioning(attention_on_one_device, static_argnums=(0, 1))
_partitioned.def_partition(
    partition=sharding.partition,
    infer_sharding_from_operands=sharding.infer_sharding,
    sharding_rule=sharding.sharding_rule,
)


@functools.lru_cache(maxsize=4096)
def _call(direction: int, problem: Problem) -> Callable[..., tuple[jax.Array, ...]]:
    @custom_vmap
    def call(*operands: jax.Array) -> tuple[jax.Array, ...]:
        return _partitioned(direction, problem, *operands)

    @call.def_vmap
    def _(
        examples: int, mapped: Sequence[bool], *operands: jax.Array
    ) -> tuple[tuple[jax.Array, ...], tuple[bool, ...]]:
        results = batch(functools.partial(fused_attn_call, direction, problem), direction, problem, operands, mapped)
        return results, (True,) * len(results)

    return jax.jit(call, inline=True)


def fused_attn_call(direction: int, problem: Problem, *operands: jax.Array) -> tuple[jax.Array, ...]:
    """Operands and results in the order of problem.operand_names and problem.result_names."""
    return _call(direction, problem)(*operands)
