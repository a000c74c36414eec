"""fused_attn and its relatives, with the names and meanings of transformer_engine.jax.attention."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from portattn.common.config import Config
from portattn.common.enums import ConfigAttr
from portattn_jax.arguments import prepare, refuse
from portattn_jax.autodiff import attention
from portattn_jax.enums import (
    AttnBiasType,
    AttnMaskType,
    AttnSoftmaxType,
    CPStrategy,
    QKVFormat,
    QKVLayout,
    canonicalize_attn_mask_type,
)
from portattn_jax.primitives.ffi import device_type, register
from portattn_jax.problem import config_floats, config_ints, dims_of
from portattn_jax.sequence_descriptor import SequenceDescriptor
from portattn_jax.sharding import on_auto_axes

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

# Arguments that are arrays, or hold some.
ARRAYS = ("qkv", "bias", "sequence_descriptor", "seed", "softmax_offset", "alibi_slopes", "attention_mask")


def fused_attn(
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
    max_segments_per_seq: int = 1,
    window_size: tuple[int, int] | None = None,
    context_parallel_strategy: CPStrategy = CPStrategy.DEFAULT,
    context_parallel_causal_load_balanced: bool = False,
    context_parallel_axis: str = "",
    context_checkpoint_name: str = "context",
    softmax_offset: jax.Array | None = None,
    stripe_size: int | None = None,
    score_mod: Any = None,
    score_mod_bprop: Any = None,
    score_mod_tensors: Any = None,
    score_mod_bprop_tensors: Any = None,
    *,
    softcap: float = 0.0,
    chunk_size: int = 0,
    alibi_slopes: jax.Array | None = None,
    attention_mask: jax.Array | None = None,
    bottom_right_diagonal: bool = False,
    deterministic: bool | None = None,
    backend: str | None = None,
    strict: bool = False,
    return_lse: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """softmax(scaling_factor * q k^T) v: attention of rows of tokens, in one custom call forward and one backward.

    qkv: (qkv,), (q, kv) or (q, k, v), as `qkv_layout` says; THD arrays are [b, s, h, d], rows that hold several
    sequences. Returns q's shape with v's head dim; with `return_lse` also the natural log of the softmax denominator,
    float32, that shape without the head dim; no gradient flows through it. Gradients: q, k, v, bias, softmax_offset.

    sequence_descriptor gives the lengths that padding masks and THD need; other masks of dense layouts do not look at
    it. bias: [1 or b, 1 or h, 1 or s_q, s_kv]. seed: uint32 [>= 2] or a key of jax.random, for dropout in training.
    softmax_offset: float32 with h elements, for LEARNABLE_SOFTMAX. window_size: keys to the left and right, inclusive,
    -1 = unbounded. The arguments about context parallelism and score_mod are taken at their defaults only.

    Beyond TransformerEngine: softcap, chunk_size, alibi_slopes [h] or [b, h] (AttnBiasType.ALIBI), attention_mask
    (ARBITRARY_MASK: bool, broadcastable to [b, h, s_q, s_kv], True = masked out), bottom_right_diagonal (of a window
    without a causal mask), deterministic (default: what NVTE_ALLOW_NONDETERMINISTIC_ALGO says), backend and strict
    (docs/architecture.md).
    """
    arguments = locals()
    problem, operands = prepare(**_of_prepare(arguments))
    register()
    outputs = on_auto_axes(functools.partial(attention, problem, context_checkpoint_name), problem, operands)
    return (outputs[0], jax.lax.stop_gradient(outputs[1])) if return_lse else outputs[0]


def _of_prepare(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that say what is computed; those of what is not there yet must be at their defaults."""
    unsupported = ("context_parallel_", "stripe_size", "score_mod")
    defaults = {name: parameter.default for name, parameter in inspect.signature(fused_attn).parameters.items()}
    refuse(**{name: (value, defaults[name]) for name, value in arguments.items() if name.startswith(unsupported)})
    others = (*unsupported, "context_checkpoint_name")
    return {name: value for name, value in arguments.items() if not name.startswith(others)}


def fused_attn_small_seq(
    qkv: tuple[jax.Array, ...],
    bias: None,
    sequence_descriptor: SequenceDescriptor | None,
    seed: None,
    attn_bias_type: AttnBiasType,
    attn_mask_type: AttnMaskType,
    qkv_layout: QKVLayout,
    scaling_factor: float,
    dropout_probability: float,
    is_training: bool,
    max_segments_per_seq: int = 1,
    window_size: tuple[int, int] | None = None,
    context_checkpoint_name: str = "context",
) -> jax.Array:
    """fused_attn by the small_seq backend: very many segments of a few tokens (docs/small_seq.md). Arguments as there;
    bias and dropout are refused with the reason."""
    return fused_attn(
        qkv,
        bias,
        sequence_descriptor,
        seed,
        attn_bias_type,
        attn_mask_type,
        qkv_layout,
        AttnSoftmaxType.VANILLA_SOFTMAX,
        scaling_factor,
        dropout_probability,
        is_training,
        max_segments_per_seq,
        window_size,
        context_checkpoint_name=context_checkpoint_name,
        backend="small_seq",
    )


def explain(*args: Any, **kwargs: Any) -> str:
    """Which backend serves fused_attn(*args, **kwargs) on jax.default_backend(), and why no other: a line for each.
    Looks at shapes only: jax.ShapeDtypeStruct will do."""
    return _config_of(*args, **kwargs).explain()


def _config_of(*args: Any, **kwargs: Any) -> Config:
    """The config of a call of fused_attn."""
    call = inspect.signature(fused_attn).bind(*args, **kwargs)
    call.apply_defaults()
    arguments = _of_prepare(call.arguments)
    arrays = {name: value for name, value in arguments.items() if name in ARRAYS}
    configs = []

    def trace(arrays: dict[str, Any]) -> None:
        problem, operands = prepare(**(arguments | arrays))
        shapes = {name: array.shape for name, array in operands.items()}
        ints = config_ints(problem, operands[problem.operands[0]].dtype.name, shapes)
        configs.append(Config((*ints, ConfigAttr.DEVICE_TYPE.value, device_type(_platform())), config_floats(problem)))

    jax.eval_shape(trace, arrays)
    return configs[0]


def _platform() -> str:
    """What jax.default_backend() is called when a call is lowered."""
    backend = jax.default_backend()
    if backend != "gpu":
        return backend
    return "rocm" if "rocm" in jax.devices()[0].client.platform_version.lower() else "cuda"


def is_fused_attn_kernel_available(
    is_training: bool,
    q_dtype: Any,
    kv_dtype: Any,
    qkv_layout: QKVLayout,
    attn_bias_type: AttnBiasType,
    attn_mask_type: AttnMaskType,
    softmax_type: AttnSoftmaxType,
    dropout_probability: float,
    q_num_heads: int,
    kv_num_heads: int,
    q_max_seqlen: int,
    kv_max_seqlen: int,
    head_dim_qk: int,
    head_dim_v: int,
    window_size: tuple[int, int] | None = None,
) -> bool:
    """Whether a backend serves such a call on jax.default_backend(). `explain` says why not."""
    if jnp.dtype(q_dtype) != jnp.dtype(kv_dtype):
        return False
    sizes = {"b": 1, "s_q": q_max_seqlen, "s_kv": kv_max_seqlen, "h": q_num_heads, "h_kv": kv_num_heads}
    sizes |= {"d_qk": head_dim_qk, "d_v": head_dim_v, "packed": 3 if qkv_layout.is_qkvpacked() else 2}
    names = ("qkv",) if qkv_layout.is_qkvpacked() else ("q", "kv") if qkv_layout.is_kvpacked() else ("q", "k", "v")
    is_learnable = softmax_type is AttnSoftmaxType.LEARNABLE_SOFTMAX

    def zeros(*shape: int, dtype: Any = q_dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    try:
        config = _config_of(
            qkv=tuple(zeros(*(sizes[dim] for dim in dims_of(qkv_layout, name, 4))) for name in names),
            bias=zeros(1, q_num_heads, q_max_seqlen, kv_max_seqlen) if attn_bias_type.has_tensor else None,
            sequence_descriptor=SequenceDescriptor((zeros(1, 1, dtype=jnp.int32),) * 2),
            seed=zeros(2, dtype=jnp.uint32),
            softmax_offset=zeros(q_num_heads, dtype=jnp.float32) if is_learnable else None,
            attn_bias_type=attn_bias_type,
            attn_mask_type=attn_mask_type,
            qkv_layout=qkv_layout,
            softmax_type=softmax_type,
            scaling_factor=1.0,
            dropout_probability=dropout_probability,
            is_training=is_training,
            window_size=window_size,
            return_lse=is_training,
        )
        config.check_backend()
    except ValueError:
        return False
    return True
