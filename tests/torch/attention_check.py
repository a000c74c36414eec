"""Runs `dot_product_attention`, or anything that behaves like it, against the float64 oracle, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from portattn.pytorch import dot_product_attention
from portattn.testing.compare import assert_close
from portattn.testing.reference import Rules, Span, attention

Attention = Callable[..., Any]


@dataclass(frozen=True)
class Shape:
    """Sizes of one problem; `lengths` are the valid tokens of each sequence, all of them if None."""

    qkv_format: str = "bshd"
    batch: int = 2
    seqlen_q: int = 9
    seqlen_kv: int = 9
    heads: int = 4
    heads_kv: int = 2
    dim_qk: int = 16
    dim_v: int = 16
    lengths_q: tuple[int, ...] | None = None
    lengths_kv: tuple[int, ...] | None = None

    def tokens(self, seqlen: int, lengths: tuple[int, ...] | None) -> tuple[int, ...]:
        """Dimensions before [h, d], in the order batch and seqlen have in memory."""
        if self.qkv_format == "thd":
            return (sum(lengths),)
        return (seqlen, self.batch) if self.qkv_format == "sbhd" else (self.batch, seqlen)


@dataclass
class Tensors:
    """Inputs of one call in the layout of `shape`. Leaves that require a gradient."""

    shape: Shape
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    bias: torch.Tensor | None = None
    softmax_offset: torch.Tensor | None = None
    alibi_slopes: torch.Tensor | None = None
    cu_seqlens: dict[str, torch.Tensor] = field(default_factory=dict)

    def leaves(self) -> dict[str, torch.Tensor]:
        named = {"q": self.q, "k": self.k, "v": self.v, "bias": self.bias, "softmax_offset": self.softmax_offset}
        return {name: tensor for name, tensor in named.items() if tensor is not None and tensor.requires_grad}

    def cast(self, dtype: torch.dtype) -> Tensors:
        """CPU leaves of the same values in another dtype, for the oracle."""

        def leaf(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.detach().cpu().to(dtype).requires_grad_(tensor.requires_grad)

        return replace(
            self,
            q=leaf(self.q),
            k=leaf(self.k),
            v=leaf(self.v),
            bias=leaf(self.bias),
            softmax_offset=leaf(self.softmax_offset),
            alibi_slopes=leaf(self.alibi_slopes),
        )


def cumulative(lengths: tuple[int, ...], device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)


def make(shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 0, device: str = "cpu", **extra: Any) -> Tensors:
    """Random inputs. extra: bias=(shape), softmax_offset=True, alibi_slopes=True."""
    print(f"seed {seed}")
    generator = torch.Generator().manual_seed(seed)

    def leaf(*sizes: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.randn(sizes, generator=generator).to(device, dtype).requires_grad_()

    def tokens(seqlen: int, lengths: tuple[int, ...] | None, heads: int, dim: int) -> torch.Tensor:
        if shape.qkv_format == "bhsd":
            return leaf(shape.batch, heads, seqlen, dim)
        return leaf(*shape.tokens(seqlen, lengths), heads, dim)

    tensors = Tensors(
        shape,
        tokens(shape.seqlen_q, shape.lengths_q, shape.heads, shape.dim_qk),
        tokens(shape.seqlen_kv, shape.lengths_kv, shape.heads_kv, shape.dim_qk),
        tokens(shape.seqlen_kv, shape.lengths_kv, shape.heads_kv, shape.dim_v),
    )
    if "bias" in extra:
        tensors.bias = leaf(*extra["bias"])
    if extra.get("softmax_offset"):
        tensors.softmax_offset = leaf(shape.heads, dtype=torch.float32)
    if extra.get("alibi_slopes"):
        tensors.alibi_slopes = leaf(shape.heads, dtype=torch.float32).detach().abs()
    if shape.lengths_q is not None:
        tensors.cu_seqlens = {
            "cu_seqlens_q": cumulative(shape.lengths_q, device),
            "cu_seqlens_kv": cumulative(shape.lengths_kv, device),
        }
    return tensors


def _rows(tensor: torch.Tensor, qkv_format: str) -> torch.Tensor:
    """Any layout as token rows [t, h, ...]."""
    if qkv_format == "thd":
        return tensor
    order = {"bshd": (0, 0), "sbhd": (0, 1), "bhsd": (1, 2)}[qkv_format]
    return tensor.transpose(*order).flatten(0, 1)


def _spans(shape: Shape, seqlen: int, lengths: tuple[int, ...] | None) -> list[Span]:
    if shape.qkv_format == "thd":
        starts = cumulative(lengths).tolist()
        return [Span(start, length) for start, length in zip(starts, lengths, strict=False)]
    return [Span(i * seqlen, lengths[i] if lengths else seqlen) for i in range(shape.batch)]


def _oracle(
    tensors: Tensors, rules: Rules, dtype: torch.dtype, d_out: torch.Tensor, **spans: Any
) -> dict[str, torch.Tensor]:
    """out and lse as rows, and the gradients of all leaves."""
    shape, inputs = tensors.shape, tensors.cast(dtype)
    out, lse = attention(
        *(_rows(tensor, shape.qkv_format) for tensor in (inputs.q, inputs.k, inputs.v)),
        spans.get("spans_q") or _spans(shape, shape.seqlen_q, shape.lengths_q),
        spans.get("spans_kv") or _spans(shape, shape.seqlen_kv, shape.lengths_kv),
        rules,
        bias=inputs.bias,
        alibi_slopes=None if inputs.alibi_slopes is None else inputs.alibi_slopes[None],
        sink=inputs.softmax_offset,
        masked_out=spans.get("masked_out"),
    )
    leaves = inputs.leaves()
    grads = torch.autograd.grad(out, list(leaves.values()), _rows(d_out, shape.qkv_format).cpu().to(dtype))
    return {
        "out": out.detach(),
        "lse": lse.detach(),
        **{f"d{name}": grad for name, grad in zip(leaves, grads, strict=True)},
    }


def _lse_rows(lse: torch.Tensor) -> torch.Tensor:
    """[b, h, s] or [t, h] -> rows [t, h]."""
    return lse if lse.dim() == 2 else lse.transpose(1, 2).flatten(0, 1)


def check(
    tensors: Tensors,
    rules: dict[str, Any] | None = None,
    attend: Attention = dot_product_attention,
    oracle_spans: dict[str, Any] | None = None,
    **arguments: Any,
) -> None:
    """Compares out, lse and every gradient of `attend(q, k, v, **arguments)` with the oracle under `rules`."""
    shape = tensors.shape
    scale = arguments.get("attn_scale", shape.dim_qk**-0.5)
    for name in ("bias", "softmax_offset", "alibi_slopes"):
        if getattr(tensors, name) is not None:
            arguments[name] = getattr(tensors, name)
    out, lse = attend(
        tensors.q, tensors.k, tensors.v, qkv_format=shape.qkv_format, return_lse=True, **tensors.cu_seqlens, **arguments
    )
    leaves = tensors.leaves()
    d_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(99)).to(out)
    grads = torch.autograd.grad(out, list(leaves.values()), d_out)
    got = {
        "out": _rows(out, shape.qkv_format),
        "lse": _lse_rows(lse),
        **{f"d{name}": grad for name, grad in zip(leaves, grads, strict=True)},
    }
    rules = Rules(scale=scale, **(rules or {}))
    dtype = tensors.q.dtype
    reference = _oracle(tensors, rules, torch.float64, d_out, **(oracle_spans or {}))
    eager = _oracle(tensors, rules, dtype, d_out, **(oracle_spans or {}))
    for name, value in got.items():
        assert_close(name, value.cpu(), reference[name], eager[name], dtype)
