"""One attention call on the arrays of one device: rows become one buffer of tokens where sequences are packed, lengths
and offsets become cu_seqlens, and everything else goes to the custom call as it is."""

from __future__ import annotations

import jax

from portattn_jax.primitives.ffi import call_p, make_cu_seqlens
from portattn_jax.problem import (
    Problem,
    Shape,
    config_floats,
    config_ints,
    dims_of,
    named,
    results_of,
    sizes_of,
)

DESCRIPTOR = ("seqlens_", "seq_offsets_", "segment_ids_")


def _flat(problem: Problem, name: str, shape: Shape) -> Shape:
    """The shape with b and s as one dimension t, for tokens of a packed problem."""
    dims = dims_of(problem.layout, name, len(shape))
    is_tokens = dims[0] == "b" and len(dims) > 2 and dims[1] in ("s_q", "s_kv")
    return (shape[0] * shape[1], *shape[2:]) if problem.is_packed and is_tokens else shape


def attention_on_one_device(direction: int, problem: Problem, *operands: jax.Array) -> tuple[jax.Array, ...]:
    """The results that problem.result_names(direction) names."""
    arrays = named(problem, direction, operands)
    shapes = {name: array.shape for name, array in arrays.items()}
    sizes = sizes_of(problem, shapes)
    inputs = {name: array.reshape(_flat(problem, name, array.shape)) for name, array in arrays.items()}
    descriptor = {name: inputs.pop(name) for name in arrays if name.startswith(DESCRIPTOR)}
    if descriptor:
        made = make_cu_seqlens(descriptor, sizes["b"], problem.max_segments, (sizes["s_q"], sizes["s_kv"]))
        inputs |= {name: array for name, array in made.items() if problem.is_packed or "padded" not in name}
    dtype = arrays[problem.operands[0]].dtype.name
    results = results_of(problem, direction, shapes, dtype)
    outputs = call_p.bind(
        *inputs.values(),
        direction=direction,
        names=tuple(inputs),
        results=tuple((name, _flat(problem, name, shape), kind) for name, shape, kind in results),
        packed_dim=problem.layout.packed_dim - int(problem.is_packed and problem.layout.packed_dim >= 0),
        ints=config_ints(problem, dtype, shapes),
        floats=config_floats(problem),
    )
    return tuple(output.reshape(shape) for output, (_, shape, _) in zip(outputs, results, strict=True))
