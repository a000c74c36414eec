"""Call sites of transformer_engine.jax find what they name: parameters in the same order, with the same defaults, and
enums with the same members and numbers."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from portattn_jax import attention

REQUIRED = inspect.Parameter.empty
FUSED_ATTN = dict.fromkeys(
    ["qkv", "bias", "sequence_descriptor", "seed", "attn_bias_type", "attn_mask_type", "qkv_layout", "softmax_type",
     "scaling_factor", "dropout_probability", "is_training"],
    REQUIRED,
) | {
    "max_segments_per_seq": 1,
    "window_size": None,
    "context_parallel_strategy": attention.CPStrategy.DEFAULT,
    "context_parallel_causal_load_balanced": False,
    "context_parallel_axis": "",
    "context_checkpoint_name": "context",
    "softmax_offset": None,
    "stripe_size": None,
    "score_mod": None,
    "score_mod_bprop": None,
    "score_mod_tensors": None,
    "score_mod_bprop_tensors": None,
}  # fmt: skip
IS_AVAILABLE = dict.fromkeys(
    ["is_training", "q_dtype", "kv_dtype", "qkv_layout", "attn_bias_type", "attn_mask_type", "softmax_type",
     "dropout_probability", "q_num_heads", "kv_num_heads", "q_max_seqlen", "kv_max_seqlen", "head_dim_qk",
     "head_dim_v"],
    REQUIRED,
) | {"window_size": None}  # fmt: skip
MODULE = {
    "head_dim": REQUIRED,
    "num_attention_heads": REQUIRED,
    "num_gqa_groups": None,
    "attention_dropout": 0.0,
    "attn_mask_type": "causal",
    "attn_bias_type": None,
    "dtype": None,
    "dropout_rng_name": "dropout",
    "float32_logits": False,
    "qkv_layout": "bshd_bshd_bshd",
    "scale_factor": None,
    "transpose_batch_sequence": None,
    "window_size": None,
    "max_segments_per_seq": 1,
    "context_parallel_causal_load_balanced": False,
    "context_parallel_axis": "",
    "context_parallel_strategy": "DEFAULT",
    "context_checkpoint_name": "context",
    "softmax_type": "vanilla",
    "score_mod": None,
    "score_mod_bprop": None,
}
ENUMS = {
    "AttnBiasType": {"NO_BIAS": 0, "PRE_SCALE_BIAS": 1, "POST_SCALE_BIAS": 2},
    "AttnMaskType": {
        "NO_MASK": 0,
        "PADDING_MASK": 1,
        "CAUSAL_MASK": 2,
        "PADDING_CAUSAL_MASK": 3,
        "CAUSAL_BOTTOM_RIGHT_MASK": 4,
        "PADDING_CAUSAL_BOTTOM_RIGHT_MASK": 5,
    },
    "AttnSoftmaxType": {"VANILLA_SOFTMAX": 0, "OFF_BY_ONE_SOFTMAX": 1, "LEARNABLE_SOFTMAX": 2},
    "QKVFormat": {"SBHD": 0, "BSHD": 1, "THD": 2},
    "QKVLayout": {
        "BS3HD": 5,
        "BSHD_BS2HD": 7,
        "BSHD_BSHD_BSHD": 9,
        "T3HD": 10,
        "THD_T2HD": 12,
        "THD_THD_THD": 14,
    },
    "CPStrategy": {"DEFAULT": 0, "ALL_GATHER": 1, "RING": 2},
}


def parameters(function: Callable) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize(
    ("name", "expected"), [("fused_attn", FUSED_ATTN), ("is_fused_attn_kernel_available", IS_AVAILABLE)]
)
def test_functions(name: str, expected: dict[str, Any]) -> None:
    """What portattn adds comes after, by keyword only."""
    function = getattr(attention, name)
    assert list(parameters(function).items())[: len(expected)] == list(expected.items())
    added = list(inspect.signature(function).parameters.values())[len(expected) :]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in added)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("from_seqlens", ["seqlens"]),
        ("from_seqlens_and_offsets", ["seqlens", "seq_offsets"]),
        ("from_segment_ids_and_pos", ["segment_ids", "segment_pos"]),
    ],
)
def test_descriptors(name: str, expected: list[str]) -> None:
    assert list(parameters(getattr(attention.SequenceDescriptor, name)))[: len(expected)] == expected


@pytest.mark.parametrize("name", ENUMS)
def test_enums(name: str) -> None:
    members = {member.name: member.value for member in getattr(attention, name)}
    assert ENUMS[name].items() <= members.items()


def test_module() -> None:
    flax = pytest.importorskip("portattn_jax.flax", reason="needs flax", exc_type=ImportError)
    fields = {field.name: field for field in dataclasses.fields(flax.DotProductAttention)}
    defaults = {
        name: REQUIRED if field.default is dataclasses.MISSING else field.default for name, field in fields.items()
    }
    assert list(defaults.items())[: len(MODULE)] == list(MODULE.items())
    call = list(parameters(flax.DotProductAttention.__call__))
    assert call[:6] == ["self", "query", "key", "value", "sequence_descriptor", "bias"]
    assert set(call[6:]) == {"deterministic", "mask", "score_mod_tensors", "score_mod_bprop_tensors"}
