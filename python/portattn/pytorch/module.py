"""`DotProductAttention`: TransformerEngine's module of that name, constructor and forward arguments included.

What it has and portattn does not yet raises NotImplementedError naming the argument; nothing is silently ignored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from portattn.common import env
from portattn.common.enums import MASK_TYPES, SOFTMAX_TYPES, enum_value
from portattn.pytorch.functional import Mask, dot_product_attention, new_rng_state

_FORMATS = {"sbhd": 0, "bshd": 1, "thd": 2}
_INSTEAD_OF = {
    "cp_group": "context parallelism is not supported yet; leave cp_group at None",
    "return_max_logit": "the largest logit is not returned yet; leave return_max_logit=False",
    "inference_params": "KV caches are not supported yet; pass the cached keys and values as key_layer and "
    "value_layer, with a bottom-right mask",
    "fp8_output": "FP8 attention is not supported yet; leave fp8_output=False",
    "bf16_backward": "FP8 attention is not supported yet; leave bf16_backward=False",
    "num_splits": "split-KV is not supported yet; leave num_splits=1",
    "score_mod": "score_mod is not supported yet; softcap, bias, ALiBi, windows and chunks have arguments of their own",
    "score_mod_bprop": "score_mod is not supported yet; leave score_mod_bprop=None",
    "score_mod_tensors": "score_mod is not supported yet; leave score_mod_tensors=None",
    "score_mod_bprop_tensors": "score_mod is not supported yet; leave score_mod_bprop_tensors=None",
}


def _refuse_unless_default(**unsupported: Any) -> None:
    """Raises for the first argument that is neither None nor False."""
    for name, value in unsupported.items():
        if value is not None and value is not False:
            raise NotImplementedError(f"{name}: {_INSTEAD_OF[name]}")


def normalize_mask_type(attn_mask_type: str) -> str:
    """ "padding,causal" and "causal_padding" are other spellings of "padding_causal"."""
    name = attn_mask_type.replace(",", "_")
    name = {"causal_padding": "padding_causal"}.get(name, name)
    enum_value(name, MASK_TYPES, "attn_mask_type")
    return name


def normalize_window_size(attn_mask_type: str, window_size: tuple[int, int] | None) -> tuple[int, int]:
    """TransformerEngine's rules: a causal mask has no window to its right, and some spellings are understood."""
    causal = "causal" in attn_mask_type
    default = (-1, 0) if causal else (-1, -1)
    if window_size is None:
        return default
    left, right = window_size
    if causal and left >= -1 and right != 0 and (left >= 0 or right == -1):
        warnings.warn(f"window_size={window_size} becomes {(left, 0)} for {attn_mask_type=}", stacklevel=3)
        return left, 0
    if not causal and (left, right) == (-1, 0):
        warnings.warn(f"window_size=(-1, 0) becomes (-1, -1) for {attn_mask_type=}", stacklevel=3)
        return default
    allowed = right == 0 and left >= -1 if causal else (left >= 0 and right >= 0) or (left, right) == (-1, -1)
    if not allowed:
        choices = "(-1, 0) or (left, 0)" if causal else "(-1, -1) or (left, right)"
        raise ValueError(
            f"window_size={window_size} does not go with attn_mask_type={attn_mask_type!r}: it may be {choices} with "
            "left and right at least 0"
        )
    return left, right


class DotProductAttention(torch.nn.Module):
    """Scaled dot product attention with TransformerEngine's interface; see its documentation for the arguments.

    num_attention_heads is the number over all tensor parallel ranks, kv_channels one head dim or a pair (d_qk, d_v).
    The output has its heads merged: [s, b, h * d_v], [b, s, h * d_v] or [t, h * d_v].

    portattn only: max_segment_seqlen_q and max_segment_seqlen_kv promise that no sequence of a call has more tokens; up
    to 32 of each bring in the backend for very many short sequences.
    """

    def __init__(
        self,
        num_attention_heads: int,
        kv_channels: int | tuple[int, int],
        num_gqa_groups: int | None = None,
        attention_dropout: float = 0.0,
        qkv_format: str = "sbhd",
        attn_mask_type: str = "causal",
        window_size: tuple[int, int] | None = None,
        bottom_right_diagonal: bool | None = None,
        sequence_parallel: bool = False,
        tp_size: int = 1,
        get_rng_state_tracker: Callable[[], Any] | None = None,
        tp_group: Any | None = None,
        layer_number: int | None = None,
        attention_type: str = "self",
        cp_group: Any | None = None,
        cp_global_ranks: list[int] | None = None,
        cp_stream: Any | None = None,
        cp_comm_type: str = "p2p",
        softmax_scale: float | None = None,
        softmax_type: str = "vanilla",
        return_max_logit: bool = False,
        name: str | None = None,
        max_segment_seqlen_q: int | None = None,
        max_segment_seqlen_kv: int | None = None,
    ) -> None:
        super().__init__()
        _refuse_unless_default(cp_group=cp_group, return_max_logit=return_max_logit)
        if attention_type not in ("self", "cross"):
            raise ValueError(f"attention_type={attention_type!r}; it may be 'self' or 'cross'")
        enum_value(qkv_format, _FORMATS, "qkv_format")
        enum_value(softmax_type, SOFTMAX_TYPES, "softmax_type")
        if tp_group is not None:
            tp_size = torch.distributed.get_world_size(tp_group)
        num_gqa_groups = num_attention_heads if num_gqa_groups is None else num_gqa_groups
        if num_attention_heads % num_gqa_groups or num_attention_heads % tp_size or num_gqa_groups % tp_size:
            raise ValueError(
                f"num_attention_heads={num_attention_heads} must be a multiple of num_gqa_groups={num_gqa_groups}, and "
                f"both of the tensor parallel size {tp_size}"
            )
        self.num_attention_heads = num_attention_heads // tp_size
        self.num_gqa_groups = num_gqa_groups // tp_size
        self.head_dim_qk, self.head_dim_v = (kv_channels,) * 2 if isinstance(kv_channels, int) else kv_channels
        h, h_kv = self.num_attention_heads, self.num_gqa_groups
        self._expected_ends = (h, self.head_dim_qk), (h_kv, self.head_dim_qk), (h_kv, self.head_dim_v)
        self.attention_dropout = attention_dropout
        self.qkv_format = qkv_format
        self.attn_mask_type = normalize_mask_type(attn_mask_type)
        self.window_size = window_size
        self.bottom_right_diagonal = bottom_right_diagonal
        self.softmax_scale = softmax_scale
        self.softmax_type = softmax_type
        self.attention_type = attention_type
        self.layer_number = layer_number or 1
        self.name = name
        self.max_segment_seqlen_q = max_segment_seqlen_q
        self.max_segment_seqlen_kv = max_segment_seqlen_kv
        self.rng_state_tracker = None if sequence_parallel else get_rng_state_tracker
        self.deterministic = not env.nondeterministic_allowed()
        self._mask_defaults = self._mask_settings(self.attn_mask_type, window_size, bottom_right_diagonal)
        self.softmax_offset = None
        if softmax_type == "learnable":
            self.softmax_offset = torch.nn.Parameter(torch.zeros(self.num_attention_heads, dtype=torch.float32))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """TransformerEngine keeps FP8 state in its checkpoints; there is none here."""
        state_dict.pop(f"{prefix}_extra_state", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return (
            f"heads={self.num_attention_heads}, gqa_groups={self.num_gqa_groups}, head_dims={self.head_dim_qk}/"
            f"{self.head_dim_v}, qkv_format={self.qkv_format}, attn_mask_type={self.attn_mask_type}"
        )

    def set_context_parallel_group(self, cp_group: Any | None, *_: Any, **__: Any) -> None:
        _refuse_unless_default(cp_group=cp_group)

    def forward(
        self,
        query_layer: torch.Tensor | None = None,
        key_layer: torch.Tensor | None = None,
        value_layer: torch.Tensor | None = None,
        attention_mask: Mask | None = None,
        qkv_format: str | None = None,
        cu_seqlens_q: torch.Tensor | None = None,
        cu_seqlens_kv: torch.Tensor | None = None,
        cu_seqlens_q_padded: torch.Tensor | None = None,
        cu_seqlens_kv_padded: torch.Tensor | None = None,
        max_seqlen_q: int | None = None,
        max_seqlen_kv: int | None = None,
        attn_mask_type: str | None = None,
        window_size: tuple[int, int] | None = None,
        bottom_right_diagonal: bool | None = None,
        checkpoint_core_attention: bool = False,
        core_attention_bias_type: str = "no_bias",
        core_attention_bias: torch.Tensor | None = None,
        alibi_slopes: torch.Tensor | None = None,
        fast_zero_fill: bool = True,
        inference_params: Any | None = None,
        pad_between_seqs: bool | None = None,
        fp8_output: bool = False,
        bf16_backward: bool = False,
        num_splits: int | None = 1,
        score_mod: Callable[..., Any] | None = None,
        score_mod_bprop: Callable[..., Any] | None = None,
        score_mod_tensors: dict[str, torch.Tensor] | None = None,
        score_mod_bprop_tensors: dict[str, torch.Tensor] | None = None,
        qkv_layer: torch.Tensor | None = None,
        kv_layer: torch.Tensor | None = None,
        qkv_interleave_dim: int = -3,
    ) -> torch.Tensor:
        """Attention of one call; arguments given here override the constructor's.

        fast_zero_fill and pad_between_seqs change nothing: padding is always written zero, and gaps between sequences
        are where the padded cu_seqlens say. As in TransformerEngine, cu_seqlens are for padding masks only, and an
        attention_mask for arbitrary masks and for padding masks without cu_seqlens.
        """
        _refuse_unless_default(
            inference_params=inference_params,
            fp8_output=fp8_output,
            bf16_backward=bf16_backward,
            num_splits=None if num_splits == 1 else num_splits,
            score_mod=score_mod,
            score_mod_bprop=score_mod_bprop,
            score_mod_tensors=score_mod_tensors,
            score_mod_bprop_tensors=score_mod_bprop_tensors,
        )
        if qkv_layer is not None or kv_layer is not None:
            query_layer, key_layer, value_layer = _unpack(
                query_layer, key_layer, value_layer, qkv_layer, kv_layer, qkv_interleave_dim
            )
        qkv_format = self.qkv_format if qkv_format is None else qkv_format
        self._check_shapes(query_layer, key_layer, value_layer)
        mask_type, window, bottom_right = self._mask_defaults
        if attn_mask_type is not None or window_size is not None or bottom_right_diagonal is not None:
            mask_type, window, bottom_right = self._mask_settings(attn_mask_type, window_size, bottom_right_diagonal)
        needs_lengths = "padding" in mask_type or qkv_format == "thd"
        if qkv_format == "thd" and "padding" not in mask_type:
            raise ValueError(f'qkv_format="thd" needs a padding mask, e.g. "padding_causal"; got {mask_type!r}')
        if mask_type != "arbitrary" and (not needs_lengths or cu_seqlens_q is not None):
            attention_mask = None
        if not needs_lengths:
            cu_seqlens_q = cu_seqlens_kv = cu_seqlens_q_padded = cu_seqlens_kv_padded = None
        dropout_p = self.attention_dropout if self.training else 0.0
        arguments = dict(
            qkv_format=qkv_format,
            attn_mask_type=mask_type,
            cu_seqlens_q=cu_seqlens_q,
            cu_seqlens_kv=cu_seqlens_kv,
            cu_seqlens_q_padded=cu_seqlens_q_padded,
            cu_seqlens_kv_padded=cu_seqlens_kv_padded,
            max_seqlen_q=max_seqlen_q,
            max_seqlen_kv=max_seqlen_kv,
            window_size=window,
            attn_scale=self.softmax_scale,
            bias=core_attention_bias,
            bias_type=core_attention_bias_type,
            alibi_slopes=alibi_slopes,
            softmax_type=self.softmax_type,
            softmax_offset=self.softmax_offset,
            attention_mask=attention_mask,
            dropout_p=dropout_p,
            deterministic=self.deterministic,
            bottom_right_diagonal=bottom_right,
            rng_state=self._rng_state(query_layer.device) if dropout_p > 0.0 else None,
            max_segment_seqlen_q=self.max_segment_seqlen_q,
            max_segment_seqlen_kv=self.max_segment_seqlen_kv,
        )
        layers = (query_layer, key_layer, value_layer)
        attend = _recomputed_attention if checkpoint_core_attention else dot_product_attention
        return attend(*layers, **arguments).flatten(-2)

    def _mask_settings(
        self, attn_mask_type: str | None, window_size: tuple[int, int] | None, bottom_right_diagonal: bool | None
    ) -> tuple[str, tuple[int, int], bool]:
        """Mask type, window and diagonal of this call, by TransformerEngine's rules."""
        mask_type = self.attn_mask_type if attn_mask_type is None else normalize_mask_type(attn_mask_type)
        window = normalize_window_size(mask_type, self.window_size if window_size is None else window_size)
        if bottom_right_diagonal is None:
            bottom_right_diagonal = self.bottom_right_diagonal
        return mask_type, window, True if bottom_right_diagonal is None else bottom_right_diagonal

    def _check_shapes(self, q: torch.Tensor | None, k: torch.Tensor | None, v: torch.Tensor | None) -> None:
        if q is None or k is None or v is None:
            raise ValueError("give query_layer, key_layer and value_layer, or query_layer and kv_layer, or qkv_layer")
        ends = q.shape[-2:], k.shape[-2:], v.shape[-2:]
        if ends != self._expected_ends:
            given, expected = (", ".join(str(list(end)) for end in three) for three in (ends, self._expected_ends))
            raise ValueError(f"query, key and value end in {given}, but this module was made for {expected}")

    def _rng_state(self, device: torch.device) -> torch.Tensor:
        """Dropout's seed, drawn under the tensor parallel rank's own generator state if there is a tracker."""
        with nullcontext() if self.rng_state_tracker is None else self.rng_state_tracker().fork():
            return new_rng_state(device)


def _recomputed_attention(*layers: torch.Tensor, **arguments: Any) -> torch.Tensor:
    """Keeps nothing for the backward but its inputs; dropout's seed is one of them."""
    return checkpoint(dot_product_attention, *layers, use_reentrant=False, preserve_rng_state=False, **arguments)


def _unpack(
    q: torch.Tensor | None,
    k: torch.Tensor | None,
    v: torch.Tensor | None,
    qkv: torch.Tensor | None,
    kv: torch.Tensor | None,
    interleave_dim: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Views of q, k and v in a packed [..., 3, h, d] or [..., h, 3, d] tensor, or of k and v in one with 2."""
    if interleave_dim not in (-3, -2):
        raise ValueError(f"qkv_interleave_dim={interleave_dim}; it may be -3 ([..., 3, h, d]) or -2 ([..., h, 3, d])")
    name, packed, parts = ("qkv_layer", qkv, 3) if qkv is not None else ("kv_layer", kv, 2)
    if (qkv is not None and (q is not None or kv is not None)) or k is not None or v is not None:
        raise ValueError(f"{name} is given together with another layer that it already holds")
    if packed.dim() < 4 or packed.shape[interleave_dim] != parts:
        raise ValueError(f"{name} is {list(packed.shape)}; dimension {interleave_dim} must have size {parts}")
    if qkv is None and q is None:
        raise ValueError("kv_layer needs query_layer beside it")
    views = packed.unbind(interleave_dim)
    return views if parts == 3 else (q, *views)
