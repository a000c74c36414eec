"""DotProductAttention of transformer_engine.jax.flax, over fused_attn: what no backend takes raises."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from portattn_jax.arguments import refuse
from portattn_jax.attention import fused_attn
from portattn_jax.enums import AttnBiasType, AttnSoftmaxType, QKVLayout, canonicalize_attn_mask_type
from portattn_jax.sequence_descriptor import SequenceDescriptor


class DotProductAttention(nn.Module):
    """Attention of query, key and value in `qkv_layout`: with a packed one `query` holds all three, or `key` the last
    two. Returns [b, s, h, d_v], in the order of the layout.

    `scale_factor` defaults to 1/sqrt(head_dim), `attn_bias_type` to POST_SCALE_BIAS where there is a bias. A learnable
    softmax has the parameter "softmax_offset", float32 [1, h, 1, 1], which starts at 0. Dropout draws from the rng
    stream `dropout_rng_name`.
    """

    head_dim: int
    num_attention_heads: int
    num_gqa_groups: int | None = None
    attention_dropout: float = 0.0
    attn_mask_type: str = "causal"
    attn_bias_type: str | None = None
    dtype: Any = None
    dropout_rng_name: str = "dropout"
    float32_logits: bool = False
    qkv_layout: str = "bshd_bshd_bshd"
    scale_factor: float | None = None
    transpose_batch_sequence: bool | None = None
    window_size: tuple[int, int] | None = None
    max_segments_per_seq: int = 1
    context_parallel_causal_load_balanced: bool = False
    context_parallel_axis: str = ""
    context_parallel_strategy: str = "DEFAULT"
    context_checkpoint_name: str = "context"
    softmax_type: str = "vanilla"
    score_mod: Any = None
    score_mod_bprop: Any = None

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        key: jax.Array | None = None,
        value: jax.Array | None = None,
        sequence_descriptor: SequenceDescriptor | None = None,
        bias: jax.Array | None = None,
        *,
        deterministic: bool = False,
        mask: jax.Array | None = None,
        score_mod_tensors: Any = None,
        score_mod_bprop_tensors: Any = None,
    ) -> jax.Array:
        """`deterministic`: no dropout, as in inference. Logits are float32 whatever the fields say."""
        refuse(
            context_parallel_causal_load_balanced=(self.context_parallel_causal_load_balanced, False),
            context_parallel_axis=(self.context_parallel_axis, ""),
            context_parallel_strategy=(self.context_parallel_strategy.upper(), "DEFAULT"),
            score_mod=(self.score_mod, None),
            score_mod_bprop=(self.score_mod_bprop, None),
            score_mod_tensors=(score_mod_tensors, None),
            score_mod_bprop_tensors=(score_mod_bprop_tensors, None),
            mask=(mask, None),
        )
        layout = self._layout()
        count = 1 if layout.is_qkvpacked() else 2 if layout.is_kvpacked() else 3
        qkv = (query, key, value)
        if any(array is None for array in qkv[:count]) or any(array is not None for array in qkv[count:]):
            raise ValueError(f"layout {layout.name} takes {count} arrays: query, key and value in this order")
        self._check_heads(layout, qkv[:count])
        softmax_type, softmax_offset = AttnSoftmaxType.from_str(self.softmax_type), None
        if softmax_type is AttnSoftmaxType.LEARNABLE_SOFTMAX:
            shape = (1, self.num_attention_heads, 1, 1)
            softmax_offset = self.param("softmax_offset", nn.initializers.zeros, shape, jnp.float32)
        drops = self.attention_dropout > 0 and not deterministic
        return fused_attn(
            qkv[:count],
            bias,
            sequence_descriptor,
            self.make_rng(self.dropout_rng_name) if drops else None,
            self._bias_type(bias),
            canonicalize_attn_mask_type(self.attn_mask_type),
            layout,
            softmax_type,
            self.head_dim**-0.5 if self.scale_factor is None else self.scale_factor,
            self.attention_dropout,
            not deterministic,
            self.max_segments_per_seq,
            self.window_size,
            context_checkpoint_name=self.context_checkpoint_name,
            softmax_offset=softmax_offset,
        )

    def _layout(self) -> QKVLayout:
        """`transpose_batch_sequence` puts the sequence before the batch."""
        name = self.qkv_layout.upper()
        if self.transpose_batch_sequence:
            name = name.replace("BSHD", "SBHD").replace("BS", "SB")
        if name not in QKVLayout.__members__:
            allowed = ", ".join(layout.name.lower() for layout in QKVLayout)
            raise ValueError(f"qkv_layout={self.qkv_layout!r} is not known; it may be one of {allowed}")
        return QKVLayout[name]

    def _check_heads(self, layout: QKVLayout, qkv: tuple[jax.Array, ...]) -> None:
        if not layout.is_separate():
            return
        at = layout.dims.index("h")
        for name, array, heads in (
            ("query", qkv[0], self.num_attention_heads),
            ("key", qkv[1], self.num_gqa_groups or self.num_attention_heads),
        ):
            if array.shape[at] != heads:
                raise ValueError(f"{name} has {array.shape[at]} heads, but the module was made for {heads}")

    def _bias_type(self, bias: jax.Array | None) -> AttnBiasType:
        if self.attn_bias_type is None:
            return AttnBiasType.NO_BIAS if bias is None else AttnBiasType.POST_SCALE_BIAS
        try:
            return AttnBiasType[self.attn_bias_type.upper()]
        except KeyError:
            allowed = ", ".join(repr(kind.name.lower()) for kind in AttnBiasType)
            raise ValueError(f"attn_bias_type={self.attn_bias_type!r} is not known; it may be {allowed}") from None
