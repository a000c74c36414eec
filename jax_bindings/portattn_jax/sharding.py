"""How one attention call is split over a mesh, for Shardy and for GSPMD: along the batch and along the heads, as q is.
Everything else, positions and head dims, is whole on every device.

Heads h = (g r): g heads of keys and values, each for r heads of queries. Mesh axes split g first; what is left splits r
where a device then holds queries of one key head. Each of those devices has a part of dk and dv: their sum is taken
here, like that of the gradients of a bias or sink that several devices share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from portattn.common.config import FORWARD
from portattn_jax.primitives.local import attention_on_one_device
from portattn_jax.problem import Problem, Shape, dims_of, named, results_of, sizes_of

Axes = tuple[str, ...]


def on_auto_axes(function: Callable, problem: Problem, operands: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
    """function(operands), whose results are o and perhaps lse. Axes of a mesh that are explicit are left to the
    partitioner inside, and the results are given the type that follows from q's."""
    explicit = jax.sharding.AxisType.Explicit
    if explicit not in jax.sharding.get_abstract_mesh().axis_types:
        return function(operands)
    q = operands[problem.operands[0]]
    axes_of = dict(zip(dims_of(problem.layout, problem.operands[0], q.ndim), jax.typeof(q).sharding.spec, strict=True))
    specs = tuple(
        PartitionSpec(*(axes_of[dim] if dim in ("b", "h") else None for dim in dims_of(problem.layout, name, 4)))
        for name in problem.result_names(FORWARD)
    )
    return jax.sharding.auto_axes(function, out_sharding=specs)(operands)


class Split:
    """Mesh axes along which a call is split."""

    def __init__(self, problem: Problem, mesh: Mesh, q: jax.ShapeDtypeStruct, shapes: dict[str, Shape]) -> None:
        self.problem, self.mesh = problem, mesh
        sizes = sizes_of(problem, shapes)
        wanted = {"b": (), "h": ()}
        dims = dims_of(problem.layout, problem.operands[0], len(q.shape))
        for dim, axes in zip(dims, getattr(q.sharding, "spec", ()), strict=False):
            if dim in wanted and axes is not None:
                wanted[dim] = (axes,) if isinstance(axes, str) else tuple(axes)
        self.batch = self._dividing(wanted["b"], sizes["b"])
        heads = self._dividing(wanted["h"], sizes["h"])
        self.heads_kv = self._dividing(heads, sizes["h_kv"])
        one_key_head = self._count(self.heads_kv) == sizes["h_kv"]
        self.heads = heads if one_key_head else self.heads_kv

    def _count(self, axes: Axes) -> int:
        return math.prod(self.mesh.shape[axis] for axis in axes)

    def _dividing(self, axes: Axes, size: int) -> Axes:
        """The first axes that split `size` evenly."""
        while axes and size % self._count(axes) != 0:
            axes = axes[:-1]
        return axes

    def sharding(self, name: str, shape: Shape) -> NamedSharding:
        axes_of = {"b": self.batch, "h": self.heads, "h_kv": self.heads_kv}
        dims = dims_of(self.problem.layout, name, len(shape))
        # A dimension of 1 that is not split already is one that is broadcast.
        spec = [axes_of.get(dim) or None if size > 1 else None for dim, size in zip(dims, shape, strict=True)]
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def summed_axes(self, name: str, shape: Shape) -> Axes:
        """Axes over whose devices a result is the sum of parts."""
        if name in ("dk", "dv", "dkv"):
            return tuple(axis for axis in self.heads if axis not in self.heads_kv)
        if name == "dbias":
            return (self.batch if shape[0] == 1 else ()) + (self.heads if shape[1] == 1 else ())
        return self.batch if name == "d_softmax_offset" else ()


def _split_of(
    direction: int, problem: Problem, mesh: Mesh, operands: Sequence[jax.ShapeDtypeStruct]
) -> tuple[Split, list[NamedSharding], list[NamedSharding], list[Axes]]:
    """The split, the shardings of operands and results, and the axes over which results are summed."""
    shapes = {name: operand.shape for name, operand in named(problem, direction, operands).items()}
    split = Split(problem, mesh, operands[0], shapes)
    results = results_of(problem, direction, shapes, "")
    operand_shardings = [split.sharding(name, shape) for name, shape in shapes.items()]
    result_shardings = [split.sharding(name, shape) for name, shape, _ in results]
    return split, operand_shardings, result_shardings, [split.summed_axes(name, shape) for name, shape, _ in results]


def infer_sharding(direction: int, problem: Problem, mesh: Mesh, operands: Sequence[Any], results: Any) -> tuple:
    """GSPMD: shardings of the results."""
    return tuple(_split_of(direction, problem, mesh, operands)[2])


def partition(
    direction: int, problem: Problem, mesh: Mesh, operands: Sequence[Any], results: Any
) -> tuple[Mesh, Callable, tuple, tuple]:
    """What each device computes, and the shardings that it needs."""
    split, operand_shardings, result_shardings, summed = _split_of(direction, problem, mesh, operands)

    def on_each_device(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        arrays = _with_own_draws(problem, direction, split, arrays)
        outputs = attention_on_one_device(direction, problem, *arrays)
        return tuple(_sum(output, axes) for output, axes in zip(outputs, summed, strict=True))

    return mesh, on_each_device, tuple(result_shardings), tuple(operand_shardings)


def _with_own_draws(problem: Problem, direction: int, split: Split, arrays: tuple) -> tuple:
    """Dropout counts batch and heads of one device: the offset, word 2, makes the draws of each device its own."""
    axes = split.batch + split.heads
    if "rng_state" not in problem.operands or not axes:
        return arrays
    index = jax.lax.axis_index(axes).astype(jnp.uint32)
    step = jnp.array([0, 0, 1, 0], jnp.uint32) * index
    names = problem.operand_names(direction)
    return tuple(array + step if name == "rng_state" else array for name, array in zip(names, arrays, strict=True))


def _sum(output: jax.Array, axes: Axes) -> jax.Array:
    if not axes:
        return output
    return jax.lax.psum(output.astype(jnp.promote_types(output.dtype, jnp.float32)), axes).astype(output.dtype)


def sharding_rule(
    direction: int, problem: Problem, mesh: Mesh, operand_types: Sequence[Any], result_types: Sequence[Any]
) -> tuple[str, dict[str, Any]]:
    """Shardy: dimensions of equal factors are split alike; all factors but b, g and r must stay whole."""
    shapes = {name: tuple(kind.shape) for name, kind in named(problem, direction, operand_types).items()}
    sizes = sizes_of(problem, shapes)
    group = sizes["h"] // sizes["h_kv"]
    heads = "g" if group == 1 else "r" if sizes["h_kv"] == 1 else "(g r)"
    factors = {"b": "b", "h": heads, "h_kv": "g"}
    whole: list[str] = []

    def factor(dim: str, size: int) -> str:
        if size > 1 and dim in factors:
            return factors[dim]
        whole.append(f"{dim}{len(whole)}" if size == 1 or dim == "packed" else dim)
        return whole[-1]

    def mapping(name: str, shape: Shape) -> str:
        return " ".join(factor(*pair) for pair in zip(dims_of(problem.layout, name, len(shape)), shape, strict=True))

    operands = ", ".join(mapping(name, shape) for name, shape in shapes.items())
    results = zip(problem.result_names(direction), result_types, strict=True)
    rule = f"{operands} -> {', '.join(mapping(name, tuple(kind.shape)) for name, kind in results)}"
    options: dict[str, Any] = {"need_replication_factors": tuple(dict.fromkeys(whole))}
    return rule, options | ({"r": group} if heads == "(g r)" else {})
