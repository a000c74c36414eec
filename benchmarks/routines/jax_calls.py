"""Attention in JAX over the tokens of a case, each in its own layout: portattn_jax, and what JAX ships.

Lengths are arguments of the compiled programs, as they are in training, not constants.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

# PyTorch lives in the same memory, and so do the groups that come after: what is free is given back at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_ALLOCATOR", "platform")

import jax
import jax.numpy as jnp

from .implementations import OURS, UnavailableError


@dataclass(frozen=True)
class Side:
    """The sequences of queries, or those of keys."""

    lengths: torch.Tensor

    @cached_property
    def valid(self) -> torch.Tensor:
        """[n, longest]: which places of a padded batch hold a token."""
        return torch.arange(int(self.lengths.max()), device=self.lengths.device) < self.lengths[:, None]

    def pad(self, tokens: torch.Tensor) -> torch.Tensor:
        padded = tokens.new_zeros(*self.valid.shape, *tokens.shape[1:])
        padded[self.valid] = tokens
        return padded

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        return padded[self.valid]


@dataclass(frozen=True)
class Batch:
    """Tokens q, do [t_q, h, d] and k, v [t_kv, h_kv, d], and how they make sequences."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    do: torch.Tensor
    side_q: Side
    side_kv: Side
    causal: bool
    packed: bool

    @property
    def scale(self) -> float:
        return self.q.shape[-1] ** -0.5


@dataclass(frozen=True)
class Recipe:
    """What an implementation computes, attention(q, k, v, lengths), and how it wants its tokens."""

    attention: Callable[..., jax.Array]
    lengths: Any
    padded: bool


class JaxCall:
    """One implementation bound to a batch: what is timed, and its results as packed tokens. A call returns when the
    device is done."""

    def __init__(self, recipe: Recipe, batch: Batch) -> None:
        self._batch, self._recipe = batch, recipe
        self._inputs = [self._array(x, side) for x, side in self._sided(batch.q, batch.k, batch.v)]
        self._cotangent = self._array(batch.do, batch.side_q)
        self._forward = jax.jit(recipe.attention)
        _, pullback = jax.jit(lambda lengths, *qkv: jax.vjp(partial(recipe.attention, lengths), *qkv))(
            recipe.lengths, *self._inputs
        )
        self._backward = partial(jax.jit(lambda pullback, cotangent: pullback(cotangent)), pullback)

    def forward(self) -> jax.Array:
        return jax.block_until_ready(self._forward(self._recipe.lengths, *self._inputs))

    def backward(self) -> tuple[jax.Array, ...]:
        return jax.block_until_ready(self._backward(self._cotangent))

    def results(self) -> dict[str, torch.Tensor]:
        arrays = self._sided(*self.backward())
        named = {"o": (self.forward(), self._batch.side_q), **dict(zip(("dq", "dk", "dv"), arrays, strict=True))}
        return {name: self._tokens(array, side) for name, (array, side) in named.items()}

    def _sided(self, q: Any, k: Any, v: Any) -> list[tuple[Any, Side]]:
        return [(q, self._batch.side_q), (k, self._batch.side_kv), (v, self._batch.side_kv)]

    def _array(self, tokens: torch.Tensor, side: Side) -> jax.Array:
        return jnp.from_dlpack((side.pad(tokens) if self._recipe.padded else tokens[None]).contiguous())

    def _tokens(self, array: jax.Array, side: Side) -> torch.Tensor:
        tensor = torch.from_dlpack(array)
        return side.unpad(tensor) if self._recipe.padded else tensor[0]


def build(name: str, batch: Batch) -> JaxCall:
    """Binds an implementation to a batch and runs it once both ways; UnavailableError when it cannot serve it."""
    try:
        call = JaxCall(_MAKERS[name](batch), batch)
        call.forward()
        call.backward()
    except Exception as error:  # whatever one implementation raises must not take the others' figures with it
        first_line = str(error).partition("\n")[0]
        raise UnavailableError(f"failed with {type(error).__name__}: {first_line[:200]}") from error
    return call


def _lengths(batch: Batch) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.asarray(side.lengths.cpu().numpy(), jnp.int32) for side in (batch.side_q, batch.side_kv))


def _portattn(batch: Batch) -> Recipe:
    from portattn_jax import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVLayout, SequenceDescriptor, fused_attn

    kinds = (AttnSoftmaxType.VANILLA_SOFTMAX, batch.scale, 0.0, True)
    if not batch.packed:
        mask = AttnMaskType.CAUSAL_MASK if batch.causal else AttnMaskType.NO_MASK

        def dense(_: None, *qkv: jax.Array) -> jax.Array:
            return fused_attn(
                qkv, None, None, None, AttnBiasType.NO_BIAS, mask, QKVLayout.BSHD_BSHD_BSHD, *kinds, strict=True
            )

        return Recipe(dense, None, padded=True)
    padding = AttnMaskType.PADDING_CAUSAL_MASK if batch.causal else AttnMaskType.PADDING_MASK
    longest = {f"max_segment_seqlen_{x}": int(s.lengths.max()) for x, s in (("q", batch.side_q), ("kv", batch.side_kv))}
    lengths = tuple(array[None] for array in _lengths(batch))
    starts = tuple(jnp.pad(array.cumsum(1), ((0, 0), (1, 0))) for array in lengths)

    def packed(descriptor: SequenceDescriptor, *qkv: jax.Array) -> jax.Array:
        return fused_attn(
            qkv, None, descriptor, None, AttnBiasType.NO_BIAS, padding, QKVLayout.THD_THD_THD, *kinds, strict=True
        )

    descriptor = SequenceDescriptor.from_seqlens_and_offsets(lengths, starts, **longest)
    return Recipe(packed, descriptor, padded=False)


def _cudnn(batch: Batch) -> Recipe:
    def attention(lengths: tuple[jax.Array, jax.Array] | None, *qkv: jax.Array) -> jax.Array:
        q_lengths, kv_lengths = lengths or (None, None)
        return jax.nn.dot_product_attention(
            *qkv, scale=batch.scale, is_causal=batch.causal, query_seq_lengths=q_lengths,
            key_value_seq_lengths=kv_lengths, implementation="cudnn",
        )  # fmt: skip

    ragged = not (batch.side_q.valid.all() and batch.side_kv.valid.all())
    return Recipe(attention, _lengths(batch) if ragged else None, padded=True)


def _einsum(batch: Batch) -> Recipe:
    """What one writes: scores of the padded batch in memory, masked, softmax in float32."""
    group = batch.q.shape[1] // batch.k.shape[1]

    def attention(lengths: tuple[jax.Array, jax.Array], q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        q = q.reshape(*q.shape[:2], -1, group, q.shape[3])
        scores = jnp.einsum("bihgd,bjhd->bhgij", q, k, preferred_element_type=jnp.float32) * batch.scale
        rows, columns = jnp.arange(q.shape[1])[:, None], jnp.arange(k.shape[1])
        seen = columns < lengths[1][:, None, None]
        seen = seen & (columns <= rows) if batch.causal else seen
        weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, -jnp.inf)).astype(v.dtype)
        return jnp.einsum("bhgij,bjhd->bihgd", weights, v).reshape(*q.shape[:2], -1, v.shape[3])

    return Recipe(attention, _lengths(batch), padded=True)


_MAKERS: dict[str, Callable[[Batch], Recipe]] = {OURS: _portattn, "jax_cudnn": _cudnn, "jax_einsum": _einsum}
