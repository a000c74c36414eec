"""portattn in JAX: fused attention for rows that hold several sequences, with TransformerEngine's names.

`portattn_jax.attention` stands where `transformer_engine.jax.attention` did, `portattn_jax.flax` where
`transformer_engine.jax.flax` did. docs/jax.md has the rest.
"""

from portattn_jax.attention import (
    AttnBiasType,
    AttnMaskType,
    AttnSoftmaxType,
    CPStrategy,
    QKVFormat,
    QKVLayout,
    SequenceDescriptor,
    canonicalize_attn_mask_type,
    explain,
    fused_attn,
    fused_attn_small_seq,
    is_fused_attn_kernel_available,
)

__all__ = [
    "AttnBiasType",
    "AttnMaskType",
    "AttnSoftmaxType",
    "CPStrategy",
    "QKVFormat",
    "QKVLayout",
    "SequenceDescriptor",
    "canonicalize_attn_mask_type",
    "explain",
    "fused_attn",
    "fused_attn_small_seq",
    "is_fused_attn_kernel_available",
]
