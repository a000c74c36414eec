"""`dot_product_attention` and `explain`: checks what only Python can see, and hands everything else to the operators.

The path of a call is short on purpose: static settings are looked up by hash, lengths stay on the device, and no tensor
operation happens that the arguments did not ask for.
"""

from __future__ import annotations

from typing import Any

import torch

from portattn.pytorch.masks import (
    arbitrary_mask,
    default_alibi_slopes,
    right_padded_lengths,
    split_padding_mask,
    valid_runs,
)
from portattn.pytorch.ops import fused_attn, fused_attn_explain, fused_attn_fwd, fused_attn_with_grad
from portattn.pytorch.settings import build_attrs, cached_attrs

Mask = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
# Position of (batch, seqlen, head) in a tensor of a format.
_DIMS = {"bshd": (0, 1, 2), "sbhd": (1, 0, 2), "bhsd": (0, 2, 1)}


def dot_product_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    qkv_format: str = "bshd",
    attn_mask_type: str = "no_mask",
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_kv: torch.Tensor | None = None,
    cu_seqlens_q_padded: torch.Tensor | None = None,
    cu_seqlens_kv_padded: torch.Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_kv: int | None = None,
    window_size: tuple[int, int] = (-1, -1),
    chunk_size: int = 0,
    attn_scale: float | None = None,
    softcap: float = 0.0,
    bias: torch.Tensor | None = None,
    bias_type: str = "no_bias",
    alibi_slopes: torch.Tensor | None = None,
    softmax_type: str = "vanilla",
    softmax_offset: torch.Tensor | None = None,
    attention_mask: Mask | None = None,
    dropout_p: float = 0.0,
    deterministic: bool = False,
    backend: str | None = None,
    strict: bool = False,
    return_lse: bool = False,
    bottom_right_diagonal: bool | None = None,
    rng_state: torch.Tensor | None = None,
    max_segment_seqlen_q: int | None = None,
    max_segment_seqlen_kv: int | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """softmax(attn_scale * q k^T) v, with everything docs/numerics.md describes.

    q is [b, s, h, d_qk], [s, b, h, d_qk], [b, h, s, d_qk] or [t, h, d_qk], as `qkv_format` says; k and v have h_kv
    heads, a divisor of h. Returns q's shape with d_v, and with `return_lse` also the natural log of the softmax
    denominator, float32 [b, h, s] or [t, h], which carries no gradient.

    cu_seqlens_*: int32 [b + 1] cumulative valid lengths, on q's device; cu_seqlens_*_padded: where each sequence starts
    in a packed buffer that has gaps. max_seqlen_*: hints for packed tensors, never needed. window_size: keys to the
    left and right of the diagonal, inclusive, -1 = unbounded. bottom_right_diagonal: how the window and ALiBi of a
    mask without a diagonal are aligned. bias: [1 or b, 1 or h, s_q, s_kv]. attention_mask: True = masked out,
    [b, 1, 1, s] or a pair of them for padding masks, broadcastable to [b, h, s_q, s_kv] for "arbitrary". backend:
    "fused_varlen", "small_seq" or "unfused" to insist on one. strict: a fallback is an error. rng_state: int64 [2] on
    q's device, to fix what dropout drops; by default it is drawn from torch's generator. max_segment_seqlen_*: a
    promise that no sequence has more tokens; up to 32 of each bring in small_seq, made for very many short sequences.
    """
    if attention_mask is not None and attn_mask_type != "arbitrary":
        return _with_padding_mask(**locals())
    problem, needs_grad = _prepare(
        q, k, v, qkv_format, attn_mask_type, cu_seqlens_q, cu_seqlens_kv, cu_seqlens_q_padded, cu_seqlens_kv_padded,
        max_seqlen_q, max_seqlen_kv, window_size, chunk_size, attn_scale, softcap, bias, bias_type, alibi_slopes,
        softmax_type, softmax_offset, attention_mask, dropout_p, deterministic, backend, strict, bottom_right_diagonal,
        rng_state, max_segment_seqlen_q, max_segment_seqlen_kv,
    )  # fmt: skip
    if torch.compiler.is_compiling():
        out, lse = fused_attn(*problem, needs_grad or return_lse or dropout_p > 0.0)
    elif needs_grad:
        out, lse = fused_attn_with_grad(problem)
    else:
        out, lse = fused_attn_fwd(*problem, return_lse or dropout_p > 0.0)
    return (out, lse) if return_lse else out


def explain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **arguments: Any) -> str:
    """Which backend `dot_product_attention` would use for these arguments, and for every other why not."""
    arguments.pop("return_lse", None)
    mask = arguments.get("attention_mask")
    if mask is not None and arguments.get("attn_mask_type", "no_mask") != "arbitrary":
        q, k, v, arguments = _apply_padding_mask(q, k, v, arguments)
    defaults = dict(dot_product_attention.__kwdefaults__)
    unknown = sorted(set(arguments) - set(defaults))
    if unknown:
        raise TypeError(f"explain() got unexpected arguments {unknown}; it takes those of dot_product_attention()")
    defaults.update(arguments)
    defaults.pop("return_lse")
    problem, needs_grad = _prepare(q, k, v, **defaults)
    shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in (("q", q), ("k", k), ("v", v)))
    purpose = "forward and backward" if needs_grad else "forward only"
    return f"{shapes}, {problem[0].dtype}, {q.device}, {purpose}\n{fused_attn_explain(*problem)}"


def _prepare(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    qkv_format: str,
    attn_mask_type: str,
    cu_seqlens_q: torch.Tensor | None,
    cu_seqlens_kv: torch.Tensor | None,
    cu_seqlens_q_padded: torch.Tensor | None,
    cu_seqlens_kv_padded: torch.Tensor | None,
    max_seqlen_q: int | None,
    max_seqlen_kv: int | None,
    window_size: tuple[int, int],
    chunk_size: int,
    attn_scale: float | None,
    softcap: float,
    bias: torch.Tensor | None,
    bias_type: str,
    alibi_slopes: torch.Tensor | None,
    softmax_type: str,
    softmax_offset: torch.Tensor | None,
    attention_mask: Mask | None,
    dropout_p: float,
    deterministic: bool,
    backend: str | None,
    strict: bool,
    bottom_right_diagonal: bool | None,
    rng_state: torch.Tensor | None,
    max_segment_seqlen_q: int | None,
    max_segment_seqlen_kv: int | None,
) -> tuple[tuple[Any, ...], bool]:
    """The operators' arguments in their order, and whether a gradient is wanted."""
    device = q.device
    if torch.is_autocast_enabled(device.type):
        q, k, v, bias = _autocast(device.type, q, k, v, bias)
    needs_grad = torch.is_grad_enabled() and _any_requires_grad(q, k, v, bias, softmax_offset)
    bias_grad = needs_grad and bias is not None and bias.requires_grad
    if bias is not None and bias.dim() < 4:
        bias = bias[(None,) * (4 - bias.dim())]
    if bias_type == "alibi":
        alibi_slopes = default_alibi_slopes(_num_heads(q, qkv_format), device) if alibi_slopes is None else alibi_slopes
    if softmax_offset is not None and (softmax_offset.dim() != 1 or softmax_offset.dtype != torch.float32):
        softmax_offset = softmax_offset.reshape(-1).float()
    if attention_mask is not None:
        attention_mask = arbitrary_mask(attention_mask)
    if dropout_p <= 0.0:
        rng_state = None
    elif rng_state is None:
        rng_state = new_rng_state(device)
    window_size = window_size if type(window_size) is tuple else tuple(window_size or (-1, -1))
    training = needs_grad or dropout_p > 0.0
    deterministic = deterministic or torch.are_deterministic_algorithms_enabled()
    static = (
        qkv_format, attn_mask_type, window_size, bottom_right_diagonal, chunk_size, bias_type, bias_grad, softmax_type,
        training, deterministic, backend, strict, max_segment_seqlen_q or 0, max_segment_seqlen_kv or 0,
    )  # fmt: skip
    attrs = build_attrs(*static) if torch.compiler.is_compiling() else cached_attrs(*static)
    attn_scale = 0.0 if attn_scale is None else _scale(attn_scale)
    hints = (_hint(max_seqlen_q), _hint(max_seqlen_kv)) if qkv_format == "thd" else (0, 0)
    problem = (
        q, k, v, bias, softmax_offset, alibi_slopes, attention_mask, cu_seqlens_q, cu_seqlens_kv, cu_seqlens_q_padded,
        cu_seqlens_kv_padded, rng_state, attrs, attn_scale, softcap, dropout_p, *hints,
    )  # fmt: skip
    return problem, needs_grad


def _any_requires_grad(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, softmax_offset: torch.Tensor | None
) -> bool:
    return (
        q.requires_grad
        or k.requires_grad
        or v.requires_grad
        or (bias is not None and bias.requires_grad)
        or (softmax_offset is not None and softmax_offset.requires_grad)
    )


def _autocast(device_type: str, *tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """What autocast does for torch's own attention: float64 stays, every other dtype becomes autocast's."""
    dtype = torch.get_autocast_dtype(device_type)
    return [t if t is None or t.dtype is torch.float64 else t.to(dtype) for t in tensors]


def new_rng_state(device: torch.device) -> torch.Tensor:
    """Philox seed and offset from torch's generator of the device: reproducible, and safe to capture in a graph."""
    return torch.randint(0, 2**62, (2,), dtype=torch.int64, device=device)


def _num_heads(q: torch.Tensor, qkv_format: str) -> int:
    return q.shape[1] if qkv_format in ("thd", "bhsd") else q.shape[2]


def _scale(attn_scale: float) -> float:
    if isinstance(attn_scale, torch.Tensor):
        raise ValueError("attn_scale is a tensor; it must be a float, since reading a tensor waits for the device")
    if attn_scale == 0:
        raise ValueError("attn_scale=0 makes every score equal; leave it out for the default 1/sqrt(d_qk)")
    return attn_scale


def _hint(max_seqlen: int | None) -> int:
    """A tensor is no hint: reading it would wait for the device."""
    return 0 if max_seqlen is None or isinstance(max_seqlen, torch.Tensor) else max_seqlen


def _with_padding_mask(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **arguments: Any
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention with lengths taken from a padding mask; see masks.valid_runs."""
    qkv_format = arguments["qkv_format"]
    packed_q, packed_k, packed_v, arguments = _apply_padding_mask(q, k, v, arguments)
    result = dot_product_attention(packed_q, packed_k, packed_v, **arguments)
    if arguments["qkv_format"] == qkv_format:
        return result
    out, lse = result if arguments["return_lse"] else (result, None)
    batch_dim, seq_dim, head_dim = _DIMS[qkv_format]
    batch, seqlen, num_heads = q.shape[batch_dim], q.shape[seq_dim], q.shape[head_dim]
    out = out.view(batch, seqlen, num_heads, -1)
    out = {"bshd": out, "sbhd": out.transpose(0, 1), "bhsd": out.transpose(1, 2)}[qkv_format].contiguous()
    return out if lse is None else (out, lse.view(batch, seqlen, num_heads).transpose(1, 2).contiguous())


def _apply_padding_mask(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, arguments: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
    """q, k, v and arguments with the attention_mask turned into lengths: packed views whose sequences may start
    anywhere in their row, or, where a bias pins positions, the same tensors with cu_seqlens."""
    qkv_format = arguments.get("qkv_format", "bshd")
    mask_type = arguments.get("attn_mask_type", "no_mask")
    if "padding" not in mask_type or qkv_format not in _DIMS:
        raise ValueError(
            f"attention_mask with attn_mask_type={mask_type!r} and qkv_format={qkv_format!r} has no meaning: it goes "
            'with the padding masks of bshd, sbhd and bhsd, and with attn_mask_type="arbitrary"'
        )
    if arguments.get("cu_seqlens_q") is not None or arguments.get("cu_seqlens_kv") is not None:
        raise ValueError("attention_mask and cu_seqlens both give the lengths; leave one out")
    batch_dim, seq_dim, _ = _DIMS[qkv_format]
    batch, seqlen_q, seqlen_kv = q.shape[batch_dim], q.shape[seq_dim], k.shape[seq_dim]
    mask_q, mask_kv = split_padding_mask(arguments["attention_mask"], batch, seqlen_q, seqlen_kv)
    changed = dict(arguments, attention_mask=None)
    if arguments.get("bias") is not None:
        changed["cu_seqlens_q"] = right_padded_lengths(mask_q)
        changed["cu_seqlens_kv"] = changed["cu_seqlens_q"] if mask_kv is mask_q else right_padded_lengths(mask_kv)
        return q, k, v, changed
    runs_q = valid_runs(mask_q)
    runs_kv = runs_q if mask_kv is mask_q else valid_runs(mask_kv)
    changed.update(
        qkv_format="thd",
        cu_seqlens_q=runs_q[0],
        cu_seqlens_q_padded=runs_q[1],
        cu_seqlens_kv=runs_kv[0],
        cu_seqlens_kv_padded=runs_kv[1],
    )
    return _packed(q, qkv_format), _packed(k, qkv_format), _packed(v, qkv_format), changed


def _packed(tensor: torch.Tensor, qkv_format: str) -> torch.Tensor:
    """[b * s, h, d]: a view of bshd, a copy of the other formats."""
    if qkv_format != "bshd":
        tensor = tensor.transpose(0, 1) if qkv_format == "sbhd" else tensor.transpose(1, 2)
    return tensor.flatten(0, 1)
