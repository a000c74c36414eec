"""Attributes of a config: defaults, ranges, relations, and what a refusal says."""

from __future__ import annotations

import ctypes
import math

import pytest

from capi import ATTRS, FLOAT_ATTRS, INVALID, MASKS, SUCCESS, Api
from problem import BASE, BASE_THD

INT64_MAX = 2**63 - 1

# attribute, value, part of the message
OUT_OF_RANGE = [
    ("dtype", 3, "allowed: 4 (fp32), 5 (fp16), 6 (bf16), 64 (fp64)"),
    ("q_format", 5, "allowed: 0 (sbhd)"),
    ("mask_type", 6, "64 (arbitrary)"),
    ("batch_size", -1, "batch_size is -1; allowed: 0 to"),
    ("batch_size", INT64_MAX, "allowed: 0 to"),
    ("num_heads_q", 0, "allowed: 1 to"),
    ("head_dim_qk", INT64_MAX, "allowed: 1 to"),
    ("max_seqlen_q", 2**29 + 1, "allowed: 0 to 536870912"),
    ("window_left", -2, "allowed: -1 to"),
    ("is_training", 2, "allowed: 0 to 1"),
    ("backend", 0, "66 (unfused)"),
    ("attn_scale", math.nan, "a finite float32"),
    ("attn_scale", 1e300, "a finite float32"),
    ("softcap", -1.0, "0 or more"),
    ("softcap", math.inf, "0 or more"),
    ("dropout", 1.0, "in [0, 1)"),
    ("dropout", -0.1, "in [0, 1)"),
]

# attributes on top of BASE, part of the message
INCONSISTENT = [
    ({"num_heads_q": 5}, "num_heads_kv must divide num_heads_q"),
    ({"bottom_right_diagonal": 1, "mask_type": MASKS["causal"]}, "fixes the diagonal at the top left"),
    ({"bottom_right_diagonal": 0, "mask_type": MASKS["causal_bottom_right"]}, "at the bottom right"),
    ({"bias_grad": 1}, "there is no bias to have a gradient"),
    ({"bias_type": 1, "bias_batch": 3}, "allowed: 1, or batch_size, which is 2"),
    ({"bias_type": 2, "bias_heads": 2}, "allowed: 1, or num_heads_q, which is 4"),
    ({"bias_type": 2, "bias_seqlen_q": 4}, "allowed: 1, or max_seqlen_q or more"),
    ({"bias_type": 2, "bias_seqlen_kv": 1}, "allowed: max_seqlen_kv or more"),
    ({"device_index": 1}, "the host has only index 0"),
    ({"batch_size": 2**31 - 2, "num_heads_q": 2**31 - 2, "head_dim_qk": 2**31 - 1}, "size of a tensor overflows"),
]


def attribute_names() -> list[str]:
    return [name for name in ATTRS if name not in FLOAT_ATTRS]


def test_every_attribute_of_the_header_exists(api: Api) -> None:
    handle = api.config()
    value = ctypes.c_int64()
    for name in attribute_names():
        status = api.lib.nvte_fused_attn_config_get_int(handle, ATTRS[name], ctypes.addressof(value))
        assert status == SUCCESS or "has not been set" in api.error(), (name, api.error())
    api.destroy(handle)


def test_set_values_come_back(api: Api) -> None:
    handle = api.config(batch_size=7, dropout=0.25)
    integer, number = ctypes.c_int64(), ctypes.c_double()
    assert api.lib.nvte_fused_attn_config_get_int(handle, ATTRS["batch_size"], ctypes.addressof(integer)) == SUCCESS
    assert api.lib.nvte_fused_attn_config_get_float(handle, ATTRS["dropout"], ctypes.addressof(number)) == SUCCESS
    assert (integer.value, number.value) == (7, 0.25)
    api.destroy(handle)


def test_a_derived_default_is_read_as_what_it_derives_from(api: Api) -> None:
    handle = api.config(max_seqlen_kv=11)
    value = ctypes.c_int64()
    assert api.lib.nvte_fused_attn_config_get_int(handle, ATTRS["bias_seqlen_kv"], ctypes.addressof(value)) == SUCCESS
    assert value.value == 11
    api.destroy(handle)


@pytest.mark.parametrize(("name", "value", "message"), OUT_OF_RANGE)
def test_out_of_range(api: Api, name: str, value: float, message: str) -> None:
    handle = api.config()
    assert api.set(handle, name, value) == INVALID
    assert message in api.error()
    api.destroy(handle)


@pytest.mark.parametrize(("changes", "message"), INCONSISTENT)
def test_inconsistent(api: Api, changes: dict[str, float], message: str) -> None:
    handle = api.config(**BASE | changes)
    status, backend = api.backend(handle)
    assert (status, backend) == (INVALID, "none")
    assert message in api.error()
    api.destroy(handle)


@pytest.mark.parametrize("missing", [*BASE_THD])
def test_required(api: Api, missing: str) -> None:
    attributes = {name: value for name, value in BASE_THD.items() if name != missing}
    handle = api.config(**attributes)
    status, _ = api.backend(handle)
    if missing in ("is_training", "q_format", "kv_format"):
        assert status == SUCCESS
    else:
        assert status == INVALID and missing in api.error() and "required" in api.error()
    api.destroy(handle)


def test_wrong_setter_and_unknown_attribute(api: Api) -> None:
    handle = api.config()
    assert api.lib.nvte_fused_attn_config_set_int(handle, ATTRS["dropout"], 0) == INVALID
    assert "use the _float function" in api.error()
    assert api.lib.nvte_fused_attn_config_set_float(handle, ATTRS["dtype"], 0.0) == INVALID
    assert "use the _int function" in api.error()
    assert api.lib.nvte_fused_attn_config_set_int(handle, 12345, 0) == INVALID
    assert "12345 does not exist" in api.error()
    api.destroy(handle)


def test_null_arguments(api: Api) -> None:
    handle = api.config(**BASE)
    value = ctypes.c_int64()
    lib = api.lib
    for status in (
        lib.nvte_fused_attn_config_create(None),
        lib.nvte_fused_attn_config_create(ctypes.addressof(value) + 1),
        lib.nvte_fused_attn_config_set_int(None, 0, 4),
        lib.nvte_fused_attn_config_get_int(handle, 0, None),
        lib.nvte_fused_attn_config_get_int(handle, 0, ctypes.addressof(value) + 1),
        lib.nvte_fused_attn_workspace_size(None, 0, ctypes.addressof(value)),
        lib.nvte_fused_attn_workspace_size(handle, 0, None),
        lib.nvte_fused_attn_workspace_size(handle, 2, ctypes.addressof(value)),
        lib.nvte_get_fused_attn_backend(handle, None),
        lib.nvte_explain_fused_attn_backend(handle, None, 1, None),
        lib.nvte_fused_attn_fwd(None, None, None, None, None),
        lib.nvte_fused_attn_fwd(handle, None, None, None, None),
        lib.nvte_fused_attn_bwd(handle, None, None, None, None, None),
    ):
        assert status == INVALID
    assert lib.nvte_fused_attn_config_destroy(None) == SUCCESS
    assert api.error() == ""
    api.destroy(handle)


def test_texts_are_cut_to_the_buffer_and_their_length_is_told(api: Api) -> None:
    handle = api.config(**BASE)
    whole = api.explain(handle)
    length = ctypes.c_size_t()
    small = ctypes.create_string_buffer(b"x" * 16)
    status = api.lib.nvte_explain_fused_attn_backend(handle, small, 8, ctypes.addressof(length))
    assert status == SUCCESS and length.value == len(whole)
    assert small.raw == whole.encode()[:7] + b"\0" + b"x" * 8 + b"\0"
    assert api.lib.nvte_explain_fused_attn_backend(handle, None, 0, None) == SUCCESS
    api.destroy(handle)


def test_version_and_names(api: Api) -> None:
    assert api.lib.nvte_version() == b"0.0.0-test"
    assert api.lib.nvte_fused_attn_backend_name(1234) == b"none"
