"""The arguments of fused_attn, checked and turned into a Problem and its operands. Only shapes, dtypes and static
values are looked at; what needs the backend table to judge is left to the C API."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from portattn.common import env
from portattn_jax.enums import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVLayout
from portattn_jax.problem import Problem, dims_of, sizes_of
from portattn_jax.sequence_descriptor import SequenceDescriptor

Operands = dict[str, jax.Array]


def prepare(
    *,
    qkv: tuple[jax.Array, ...],
    bias: jax.Array | None,
    sequence_descriptor: SequenceDescriptor | None,
    seed: jax.Array | None,
    attn_bias_type: AttnBiasType,
    attn_mask_type: AttnMaskType,
    qkv_layout: QKVLayout,
    softmax_type: AttnSoftmaxType,
    scaling_factor: float,
    dropout_probability: float,
    is_training: bool,
    max_segments_per_seq: int,
    window_size: tuple[int, int] | None,
    softmax_offset: jax.Array | None,
    softcap: float,
    chunk_size: int,
    alibi_slopes: jax.Array | None,
    attention_mask: jax.Array | None,
    bottom_right_diagonal: bool,
    deterministic: bool | None,
    backend: str | None,
    strict: bool,
    return_lse: bool,
) -> tuple[Problem, Operands]:
    """The static part of a call, and its arrays by name in the order of problem.operands."""
    if scaling_factor == 0:
        raise ValueError("scaling_factor=0 makes every score equal; give 1/sqrt(d) or another scale")
    dropout = float(dropout_probability) if is_training else 0.0
    operands = _token_operands(qkv, qkv_layout)
    operands |= _bias_operands(bias, attn_bias_type, alibi_slopes, operands, qkv_layout)
    operands |= _softmax_operands(softmax_offset, softmax_type, attention_mask, attn_mask_type)
    segments, is_packed = 1, False
    if qkv_layout.is_thd() or attn_mask_type.is_padding():
        has_positions = "bias" in operands
        is_packed = _is_packed(sequence_descriptor, qkv_layout, has_positions)
        segments = _segments(sequence_descriptor, max_segments_per_seq, is_packed, qkv_layout)
        operands |= sequence_descriptor.operands(with_offsets=is_packed)
    if dropout > 0:
        operands["rng_state"] = _rng_state(seed)
    problem = Problem(
        layout=qkv_layout,
        mask_type=attn_mask_type,
        bias_type=attn_bias_type,
        softmax_type=softmax_type,
        attn_scale=float(scaling_factor),
        softcap=float(softcap),
        dropout=dropout,
        window_size=(-1, -1) if window_size is None else (int(window_size[0]), int(window_size[1])),
        bottom_right_diagonal=bool(bottom_right_diagonal),
        chunk_size=int(chunk_size),
        deterministic=not env.nondeterministic_allowed() if deterministic is None else bool(deterministic),
        backend=backend,
        strict=bool(strict),
        is_packed=is_packed,
        max_segments=segments,
        max_segment_seqlens=_hints(sequence_descriptor),
        operands=tuple(operands),
        training=bool(return_lse) or dropout > 0,
    )
    _check_shapes(problem, operands)
    return problem, _varying_alike(operands)


def _token_operands(qkv: tuple[jax.Array, ...], layout: QKVLayout) -> Operands:
    names = ("qkv",) if layout.is_qkvpacked() else ("q", "kv") if layout.is_kvpacked() else ("q", "k", "v")
    if len(qkv) != len(names):
        raise ValueError(f"qkv has {len(qkv)} arrays; layout {layout.name} takes {len(names)}: {', '.join(names)}")
    operands = dict(zip(names, (jnp.asarray(array) for array in qkv), strict=True))
    first = operands[names[0]]
    for name, array in operands.items():
        dims = dims_of(layout, name, array.ndim)
        if array.ndim != len(dims):
            raise ValueError(f"{name} has shape {list(array.shape)}; layout {layout.name} takes [{', '.join(dims)}]")
        if array.dtype != first.dtype:
            raise ValueError(f"{name} is {array.dtype}, but {names[0]} is {first.dtype}; give one dtype")
    return operands


def _bias_operands(
    bias: jax.Array | None, bias_type: AttnBiasType, slopes: jax.Array | None, tokens: Operands, layout: QKVLayout
) -> Operands:
    if (bias is not None) != bias_type.has_tensor:
        given = "without a bias" if bias is None else "with a bias"
        raise ValueError(f"attn_bias_type is {bias_type.name} {given}; PRE_SCALE_BIAS and POST_SCALE_BIAS take one")
    if slopes is not None and bias_type is not AttnBiasType.ALIBI:
        raise ValueError(f"alibi_slopes are given, but attn_bias_type is {bias_type.name}; set it to ALIBI")
    name, first = next(iter(tokens.items()))
    if bias is not None:
        if bias.ndim > 4 or bias.dtype != first.dtype:
            raise ValueError(
                f"bias is {bias.dtype}{list(bias.shape)}; it must be {first.dtype}[1 or b, 1 or h, 1 or s_q, s_kv]"
            )
        return {"bias": bias.reshape((1,) * (4 - bias.ndim) + bias.shape)}
    if bias_type is AttnBiasType.ALIBI:
        heads = first.shape[dims_of(layout, name, first.ndim).index("h")]
        slopes = default_alibi_slopes(heads) if slopes is None else slopes
        return {"alibi_slopes": jnp.asarray(slopes, jnp.float32)}
    return {}


def default_alibi_slopes(num_heads: int) -> np.ndarray:
    """The usual geometric slopes, float32 [h]: 2^(-8 i / n) for the n = largest power of two within h, then every
    second slope of the sequence for 2 n."""
    power = 1 << (num_heads.bit_length() - 1)
    head = np.arange(num_heads)
    return np.exp2(np.where(head < power, -8 / power * (head + 1), -4 / power * (2 * (head - power) + 1))).astype(
        np.float32
    )


def _softmax_operands(
    softmax_offset: jax.Array | None,
    softmax_type: AttnSoftmaxType,
    attention_mask: jax.Array | None,
    mask_type: AttnMaskType,
) -> Operands:
    operands = {}
    if (softmax_offset is not None) != (softmax_type is AttnSoftmaxType.LEARNABLE_SOFTMAX):
        given = "without" if softmax_offset is None else "with"
        raise ValueError(
            f"softmax_type is {softmax_type.name} {given} softmax_offset; LEARNABLE_SOFTMAX takes one, the others none"
        )
    if softmax_offset is not None:
        operands["softmax_offset"] = softmax_offset.reshape(-1).astype(jnp.float32)
    if (attention_mask is not None) != (mask_type is AttnMaskType.ARBITRARY_MASK):
        given = "without" if attention_mask is None else "with"
        raise ValueError(f"attn_mask_type is {mask_type.name} {given} attention_mask; ARBITRARY_MASK takes one")
    if attention_mask is not None:
        if attention_mask.dtype != jnp.bool_ or attention_mask.ndim > 4:
            raise ValueError(
                f"attention_mask is {attention_mask.dtype}{list(attention_mask.shape)}; it must be bool, broadcastable "
                "to [b, h, s_q, s_kv], True = masked out"
            )
        operands["attention_mask"] = attention_mask.reshape((1,) * (4 - attention_mask.ndim) + attention_mask.shape)
    return operands


def _is_packed(descriptor: SequenceDescriptor | None, layout: QKVLayout, has_positions: bool) -> bool:
    """Whether the rows are run as one buffer of tokens: THD, and BSHD whose sequences may start anywhere in their row.
    A bias counts from the first token of a row, so it keeps BSHD rows as they are."""
    if not isinstance(descriptor, SequenceDescriptor):
        raise ValueError(
            f"sequence_descriptor is {type(descriptor).__name__}, but padding masks and THD layouts take their lengths "
            "from a SequenceDescriptor. A mask goes into attention_mask, with ARBITRARY_MASK."
        )
    starts_anywhere = bool(descriptor.seq_offsets or descriptor.segment_ids)
    return layout.is_thd() or (layout.dims == "bshd" and starts_anywhere and not has_positions)


def _segments(descriptor: SequenceDescriptor, max_segments: int, is_packed: bool, layout: QKVLayout) -> int:
    """Sequences of a row."""
    counts = {array.shape[1] for array in descriptor.seqlens} or {int(max_segments)}
    if len(counts) > 1:
        raise ValueError(
            f"the descriptor has {sorted(counts)} segments a row for queries and keys; they must be as many"
        )
    segments = counts.pop()
    if not is_packed and (segments != 1 or descriptor.seq_offsets):
        raise ValueError(
            f"layout {layout.name} holds one sequence a row, from its first token on, but the descriptor has offsets "
            f"or {segments} segments; use a THD layout (BSHD does as well, without a bias)"
        )
    return segments


def _rng_state(seed: jax.Array | None) -> jax.Array:
    """Philox seed and offset, two 64-bit numbers in four words."""
    if seed is None:
        raise ValueError("dropout in training needs a seed: uint32 with 2 elements or more, or a key of jax.random")
    if jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        seed = jax.random.key_data(seed)
    if seed.size < 2:
        raise ValueError(f"seed has {seed.size} elements; dropout takes a uint32 array with 2 or more")
    return jnp.concatenate([seed.reshape(-1)[:2].astype(jnp.uint32), jnp.zeros(2, jnp.uint32)])


def _hints(descriptor: Any) -> tuple[int, int]:
    if not isinstance(descriptor, SequenceDescriptor):
        return 0, 0
    return descriptor.max_segment_seqlen_q, descriptor.max_segment_seqlen_kv


def _check_shapes(problem: Problem, operands: Operands) -> None:
    """Tokens and descriptor agree on every dimension that they share."""
    sizes = sizes_of(problem, {name: array.shape for name, array in operands.items()})
    for name, array in operands.items():
        if name in ("bias", "attention_mask"):
            continue
        for dim, size in zip(dims_of(problem.layout, name, array.ndim), array.shape, strict=True):
            if sizes.get(dim, size) != size:
                raise ValueError(
                    f"{name} has shape {list(array.shape)}: its {dim} is {size}, elsewhere it is {sizes[dim]}"
                )


def _varying_alike(operands: Operands) -> Operands:
    """Inside shard_map: all operands vary over the axes that any varies over, so that autodiff sums the gradient of one
    that is the same on several devices."""
    axes = {name: jax.typeof(array).manual_axis_type.varying for name, array in operands.items()}
    union = frozenset().union(*axes.values())
    return {
        name: jax.lax.pcast(array, tuple(sorted(union - axes[name])), to="varying") for name, array in operands.items()
    }


def refuse(**arguments: tuple[Any, Any]) -> None:
    """Arguments of TransformerEngine for what portattn does not have: (given, default)."""
    for name, (given, default) in arguments.items():
        if given is not default and given != default:
            raise ValueError(f"{name}={given!r} is not supported by portattn_jax yet; leave it at {default!r}")
