"""SequenceDescriptor: which tokens of a batch belong to which sequence. A pytree of arrays, read on the device only."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

Arrays = jax.Array | tuple[jax.Array, jax.Array]


def _sides(name: str, arrays: Arrays, dims: tuple[str, ...]) -> tuple[jax.Array, ...]:
    """One array that serves both sides, or one for queries and one for keys."""
    sides = tuple(arrays) if isinstance(arrays, tuple | list) else (arrays,)
    if not 1 <= len(sides) <= 2:
        raise ValueError(f"{name} has {len(sides)} arrays; give one for both sides, or a pair (queries, keys)")
    for array in sides:
        if array.ndim != len(dims) or not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(
                f"{name} is {array.dtype}{list(array.shape)}; it must be an integer array [{', '.join(dims)}]"
            )
    return tuple(jnp.asarray(array, jnp.int32) for array in sides)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SequenceDescriptor:
    """Made by one of the from_... functions. Each takes one array for both sides or a pair (of queries, of keys).

    max_segment_seqlen_q and max_segment_seqlen_kv promise, statically, that no segment is longer: up to 32 they choose
    the small_seq backend. A longer segment is still computed right. 0 promises nothing.
    """

    seqlens: tuple[jax.Array, ...] = ()  # [b, n]
    seq_offsets: tuple[jax.Array, ...] = ()  # [b, n + 1]
    segment_ids: tuple[jax.Array, ...] = ()  # [b, s]
    max_segment_seqlen_q: int = dataclasses.field(default=0, metadata={"static": True})
    max_segment_seqlen_kv: int = dataclasses.field(default=0, metadata={"static": True})

    @classmethod
    def from_seqlens(
        cls, seqlens: Arrays, *, max_segment_seqlen_q: int = 0, max_segment_seqlen_kv: int = 0
    ) -> SequenceDescriptor:
        """Valid tokens [b] at the start of each row."""
        lengths = tuple(array[:, None] for array in _sides("seqlens", seqlens, ("b",)))
        return cls(lengths, (), (), max_segment_seqlen_q, max_segment_seqlen_kv)

    @classmethod
    def from_seqlens_and_offsets(
        cls, seqlens: Arrays, seq_offsets: Arrays, *, max_segment_seqlen_q: int = 0, max_segment_seqlen_kv: int = 0
    ) -> SequenceDescriptor:
        """Length [b, n] and start in its row [b, n + 1] of each segment; -1 in those that are not used. One row of two
        segments, of 3 and 2 tokens with one of padding between them: [[3, 2]] and [[0, 4, 6]]."""
        lengths = _sides("seqlens", seqlens, ("b", "n"))
        offsets = _sides("seq_offsets", seq_offsets, ("b", "n + 1"))
        if len(lengths) != len(offsets):
            raise ValueError("seqlens and seq_offsets must both be one array for both sides, or both a pair")
        return cls(lengths, offsets, (), max_segment_seqlen_q, max_segment_seqlen_kv)

    @classmethod
    def from_segment_ids_and_pos(
        cls,
        segment_ids: Arrays,
        segment_pos: Arrays | None = None,
        *,
        max_segment_seqlen_q: int = 0,
        max_segment_seqlen_kv: int = 0,
    ) -> SequenceDescriptor:
        """Id [b, s] of each token's segment: 1, 2, ..., the tokens of a segment side by side, 0 = padding. segment_pos
        [b, s] is required, as in TransformerEngine, and must be what follows from the ids: 0, 1, 2, ... in each
        segment; any other order belongs to context parallelism, which is not there."""
        ids = _sides("segment_ids", segment_ids, ("b", "s"))
        if segment_pos is None:
            raise ValueError("segment_pos is missing; give positions [b, s] that count from 0 within each segment")
        positions = _sides("segment_pos", segment_pos, ("b", "s"))
        if [array.shape for array in ids] != [array.shape for array in positions]:
            raise ValueError("segment_pos must have the shapes of segment_ids")
        return cls((), (), ids, max_segment_seqlen_q, max_segment_seqlen_kv)

    def operands(self, with_offsets: bool) -> dict[str, jax.Array]:
        """By name, as the primitives take them; the kv ones are missing where one array serves both sides."""
        kinds = {"seqlens": self.seqlens, "segment_ids": self.segment_ids}
        if with_offsets:
            kinds["seq_offsets"] = self.seq_offsets
        return {
            f"{kind}_{side}": array
            for kind, arrays in kinds.items()
            for side, array in zip(("q", "kv"), arrays, strict=False)
        }
