"""The implementations under test: portattn and what PyTorch ships, each in its own layout over the same tokens.

Every one is a function of (q, k, v) that autograd can differentiate, so forward and backward carry the same kind of
host work everywhere. Converting to an implementation's layout is done once, outside the timing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from .cases import Case

OURS = "portattn"
FASTEST = "fastest"  # in the place of a peer: whichever is, in each row
LABELS = {
    OURS: "portattn",
    FASTEST: "fastest peer",
    "sdpa": "torch SDPA",
    "sdpa_flash": "FA2 (torch SDPA)",
    "sdpa_cudnn": "cuDNN (torch SDPA)",
    "sdpa_math": "math (torch SDPA)",
    "sdpa_padded": "padded torch SDPA",
    "fa2_varlen": "FA2 varlen (torch)",
    "torch_varlen": "torch varlen_attn",
    "cudnn_padded": "cuDNN, padded (torch SDPA)",
    "einsum_compiled": "compiled einsum + softmax",
    "fa4": "FA4",
    "fa4_varlen": "FA4 varlen",
    "portattn_atomic": "portattn, not deterministic",
    "portattn_torch": "portattn (PyTorch)",
    "jax_cudnn": "cuDNN (jax.nn)",
    "jax_einsum": "einsum + softmax under jit",
}


class UnavailableError(Exception):
    """This implementation cannot run here; the message says why."""


@dataclass(frozen=True)
class Tokens:
    """Random inputs of a case as packed tokens: q [t, h, d], k [t, h_kv, d], v [t, h_kv, d_v], do [t, h, d_v], offsets
    int32 [b + 1]."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    do: torch.Tensor
    cu_seqlens: torch.Tensor

    @staticmethod
    def random(case: Case, dtype: torch.dtype, device: str) -> Tokens:
        generator = torch.Generator(device).manual_seed(case.seed)

        def draw(num_heads: int, dim: int) -> torch.Tensor:
            shape = (case.total_tokens, num_heads, dim)
            return torch.randn(shape, generator=generator, dtype=dtype, device=device)

        cu_seqlens = torch.tensor(case.offsets, dtype=torch.int32, device=device)
        heads = (case.num_heads_q, case.num_heads_kv, case.num_heads_kv, case.num_heads_q)
        dims = (case.head_dim, case.head_dim, case.value_dim, case.value_dim)
        return Tokens(*map(draw, heads, dims), cu_seqlens)


@dataclass(frozen=True)
class Layout:
    """How an implementation wants its tensors: from packed tokens [t, h, d], and back."""

    from_tokens: Callable[[torch.Tensor], torch.Tensor]
    to_tokens: Callable[[torch.Tensor], torch.Tensor]


class Implementation:
    """One implementation bound to the tokens of one case: what is timed, and its results as packed tokens."""

    def __init__(self, attention: Callable[..., torch.Tensor], layout: Layout, tokens: Tokens) -> None:
        self._attention = attention
        self._layout = layout
        self._inputs = tuple(layout.from_tokens(x).detach() for x in (tokens.q, tokens.k, tokens.v))
        self._leaves = tuple(x.detach().requires_grad_() for x in self._inputs)
        self._cotangent = layout.from_tokens(tokens.do)
        self._output: torch.Tensor | None = None

    def forward(self) -> torch.Tensor:
        with torch.no_grad():
            return self._attention(*self._inputs)

    def backward(self) -> tuple[torch.Tensor, ...]:
        """Gradients through a graph that is kept, so that only the backward pass runs after the first call."""
        if self._output is None:
            self._output = self._attention(*self._leaves)
        return torch.autograd.grad(self._output, self._leaves, self._cotangent, retain_graph=True)

    def results(self) -> dict[str, torch.Tensor]:
        """Output and gradients as packed tokens, for the reference check."""
        named = {"o": self.forward(), **dict(zip(("dq", "dk", "dv"), self.backward(), strict=True))}
        return {name: self._layout.to_tokens(tensor) for name, tensor in named.items()}


def build(
    name: str, case: Case, tokens: Tokens, backend: str | None = None, deterministic: bool = False
) -> Implementation:
    """Binds an implementation to a case and runs it once both ways; UnavailableError when it cannot serve it.

    `backend` and `deterministic` are portattn's."""
    maker = partial(_portattn, backend=backend, deterministic=deterministic) if name == OURS else _PEERS[name]
    try:
        attention, layout = maker(case, tokens)
        implementation = Implementation(attention, layout, tokens)
        implementation.forward()
        implementation.backward()
    except ImportError as error:
        raise UnavailableError(f"cannot be imported: {error}") from error
    except Exception as error:  # whatever one implementation raises must not take the others' figures with it
        first_line = str(error).partition("\n")[0]
        raise UnavailableError(f"failed with {type(error).__name__}: {first_line}") from error
    return implementation


def _dense_bshd(case: Case) -> Layout:
    batch, seqlen = len(case.seqlens), case.max_seqlen
    return Layout(lambda x: x.view(batch, seqlen, *x.shape[1:]), lambda x: x.reshape(-1, *x.shape[2:]))


def _dense_bhsd(case: Case) -> Layout:
    """[b, h, s, d] as a transposed view of [b, s, h, d], which is how models hold it."""
    bshd = _dense_bshd(case)
    return Layout(lambda x: bshd.from_tokens(x).transpose(1, 2), lambda x: bshd.to_tokens(x.transpose(1, 2)))


def _packed(_: Case) -> Layout:
    return Layout(lambda x: x, lambda x: x)


def _padded_bhsd(case: Case, valid: torch.Tensor) -> Layout:
    """Every sequence padded with zeros to the longest, [b, h, s, d] as a view; `valid` [b, s] marks the real tokens."""

    def pad(x: torch.Tensor) -> torch.Tensor:
        padded = x.new_zeros(*valid.shape, *x.shape[1:])
        padded[valid] = x
        return padded.transpose(1, 2)

    return Layout(pad, lambda x: x.transpose(1, 2)[valid])


def _portattn(
    case: Case, tokens: Tokens, backend: str | None = None, deterministic: bool = False
) -> tuple[Callable[..., torch.Tensor], Layout]:
    from portattn.pytorch import dot_product_attention

    options: dict[str, Any] = {"backend": backend} if backend else {"strict": True}
    options["deterministic"] = deterministic
    if not case.packed:
        mask = "causal" if case.causal else "no_mask"
        return partial(dot_product_attention, qkv_format="bshd", attn_mask_type=mask, **options), _dense_bshd(case)
    attention = partial(
        dot_product_attention,
        qkv_format="thd",
        attn_mask_type="padding_causal" if case.causal else "padding",
        cu_seqlens_q=tokens.cu_seqlens,
        cu_seqlens_kv=tokens.cu_seqlens,
        max_seqlen_q=case.max_seqlen,
        max_seqlen_kv=case.max_seqlen,
        **options,
    )
    return attention, _packed(case)


def _sdpa(case: Case, _: Tokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    enable_gqa = case.num_heads_q != case.num_heads_kv
    attention = partial(F.scaled_dot_product_attention, is_causal=case.causal, enable_gqa=enable_gqa)
    return attention, _dense_bhsd(case)


def _sdpa_with(backend: SDPBackend, case: Case, tokens: Tokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    plain, layout = _sdpa(case, tokens)

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(backend):
            return plain(q, k, v)

    return attention, layout


def _sdpa_padded(case: Case, tokens: Tokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    """A causal mask already hides padding on the right, so the key mask is only given where it is needed."""
    device = tokens.q.device
    lengths = torch.tensor(case.seqlens, device=device)
    valid = torch.arange(case.max_seqlen, device=device)[None, :] < lengths[:, None]
    mask = {"is_causal": True} if case.causal else {"attn_mask": valid[:, None, None, :]}
    enable_gqa = case.num_heads_q != case.num_heads_kv
    attention = partial(F.scaled_dot_product_attention, enable_gqa=enable_gqa, **mask)
    return attention, _padded_bhsd(case, valid)


def _fa2_varlen(case: Case, tokens: Tokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    """FlashAttention-2 as PyTorch ships it, through the operator that its own nested tensors use."""
    cu, longest = tokens.cu_seqlens, case.max_seqlen
    operator = torch.ops.aten._flash_attention_forward

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return operator(q, k, v, cu, cu, longest, longest, 0.0, case.causal, False)[0]

    return attention, _packed(case)


def _torch_varlen(case: Case, tokens: Tokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    from torch.nn.attention.varlen import varlen_attn

    cu, longest = tokens.cu_seqlens, case.max_seqlen
    options = {"window_size": (-1, 0 if case.causal else -1)}
    if case.num_heads_q != case.num_heads_kv:
        options["enable_gqa"] = True

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return varlen_attn(q, k, v, cu, cu, longest, longest, **options)

    return attention, _packed(case)


def _fa4(case: Case, _: Tokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    from flash_attn.cute import flash_attn_func

    return lambda q, k, v: flash_attn_func(q, k, v, causal=case.causal)[0], _dense_bshd(case)


def _fa4_varlen(case: Case, tokens: Tokens) -> tuple[Callable[..., torch.Tensor], Layout]:
    from flash_attn.cute import flash_attn_varlen_func

    options = {
        "cu_seqlens_q": tokens.cu_seqlens,
        "cu_seqlens_k": tokens.cu_seqlens,
        "max_seqlen_q": case.max_seqlen,
        "max_seqlen_k": case.max_seqlen,
        "causal": case.causal,
    }
    return lambda q, k, v: flash_attn_varlen_func(q, k, v, **options)[0], _packed(case)


_PEERS: dict[str, Callable[[Case, Tokens], tuple[Callable[..., torch.Tensor], Layout]]] = {
    "sdpa": _sdpa,
    "sdpa_flash": partial(_sdpa_with, SDPBackend.FLASH_ATTENTION),
    "sdpa_cudnn": partial(_sdpa_with, SDPBackend.CUDNN_ATTENTION),
    "sdpa_math": partial(_sdpa_with, SDPBackend.MATH),
    "sdpa_padded": _sdpa_padded,
    "fa2_varlen": _fa2_varlen,
    "torch_varlen": _torch_varlen,
    "fa4": _fa4,
    "fa4_varlen": _fa4_varlen,
    "portattn_atomic": _portattn,
}
