"""Tensors of a call: what is refused, with which words, and that nothing is launched then."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from capi import (
    BACKWARD,
    FORMATS,
    FORWARD,
    INVALID,
    MASKS,
    SUCCESS,
    TOO_SMALL,
    Api,
    Buffer,
    Inputs,
    Outputs,
    pack,
)
from fake import Fake
from problem import BASE, BASE_THD, Problem


def set_field(name: str, value: int) -> Callable[[Buffer], None]:
    return lambda buffer: setattr(buffer.tensor, name, value)


def set_stride(dim: int, value: int) -> Callable[[Buffer], None]:
    def change(buffer: Buffer) -> None:
        buffer.tensor.strides[dim] = value

    return change


def set_shape(dim: int, value: int) -> Callable[[Buffer], None]:
    def change(buffer: Buffer) -> None:
        buffer.tensor.shape[dim] = value

    return change


def move_data(offset: int) -> Callable[[Buffer], None]:
    return lambda buffer: setattr(buffer.tensor, "data", buffer.tensor.data + offset)


# tensor, what is done to it, part of the message
BROKEN = [
    ("q", set_field("struct_size", 8), "struct_size 8; allowed: 112"),
    ("q", set_field("dtype", 5), "q has dtype 5 (fp16); the config asks for 4 (fp32)"),
    ("q", set_field("dtype", 99), "dtype 99 (unknown)"),
    ("q", set_field("ndim", 3), "q has shape [2, 5, 4]; the config asks for [b, s, h, d] = [2, 5, 4, 16]"),
    ("q", set_field("ndim", -1), "ndim -1"),
    ("q", set_field("ndim", 100), "ndim 100"),
    ("q", set_field("device_type", 1), "on device cuda:0; the config names host:0"),
    ("q", set_field("device_type", 77), "on device unknown:0"),
    ("q", set_field("device_index", 3), "on device host:3"),
    ("q", set_field("data", 0), "data NULL"),
    ("q", move_data(1), "must be aligned to 16 bytes"),
    ("q", move_data(4), "must be aligned to 16 bytes"),
    ("q", set_shape(1, 6), "q has shape [2, 6, 4, 16]"),
    ("k", set_shape(2, -2), "k has shape [2, 7, -2, 16]"),
    ("k", set_stride(3, 2), "stride 2 in its last dimension d"),
    ("k", set_stride(1, -32), "negative strides"),
    ("k", set_stride(1, 30), "not a multiple of 16 bytes"),
    ("v", set_stride(0, 2**62), "beyond the address space"),
    ("v", set_stride(0, 2**63 - 1 - 3), "beyond the address space"),
    ("o", set_stride(0, 0), "its elements share memory"),
    ("lse", set_field("dtype", 64), "lse has dtype 64 (fp64); the config asks for 4 (fp32)"),
    ("lse", move_data(2), "must be aligned to 4 bytes"),
]


@pytest.mark.parametrize(("name", "change", "message"), BROKEN)
def test_broken_tensor(api: Api, fake: Fake, name: str, change: Callable[[Buffer], None], message: str) -> None:
    problem = Problem(BASE)
    handle = api.config(**BASE)
    change((problem.inputs | problem.outputs)[name])
    assert problem.run(api, handle, FORWARD) == INVALID
    assert name in api.error() and message in api.error()
    assert fake.calls() == []
    api.destroy(handle)


@pytest.mark.parametrize(
    "name", ["q", "k", "v", "bias", "softmax_offset", "cu_seqlens_q", "cu_seqlens_kv", "rng_state"]
)
def test_missing_input(api: Api, fake: Fake, name: str) -> None:
    attributes = BASE_THD | {"bias_type": 1, "softmax_type": 2, "dropout": 0.5}
    problem = Problem(attributes)
    handle = api.config(**attributes)
    del problem.inputs[name]
    assert problem.run(api, handle, FORWARD) == INVALID
    assert f"{name} is NULL" in api.error()
    assert fake.calls() == []
    api.destroy(handle)


NEVER_ASKED_FOR = [
    *("bias", "softmax_offset", "alibi_slopes", "attention_mask", "rng_state"),
    *("cu_seqlens_q", "cu_seqlens_kv", "cu_seqlens_q_padded", "cu_seqlens_kv_padded"),
]


@pytest.mark.parametrize("name", NEVER_ASKED_FOR)
def test_input_that_was_not_asked_for(api: Api, fake: Fake, name: str) -> None:
    problem = Problem(BASE)
    handle = api.config(**BASE)
    problem.inputs[name] = Buffer("int32", [3])
    assert problem.run(api, handle, FORWARD) == INVALID
    assert f"{name} is given, but the config does not ask for it" in api.error()
    assert fake.calls() == []
    api.destroy(handle)


@pytest.mark.parametrize("name", ["dbias", "d_softmax_offset"])
def test_gradient_that_was_not_asked_for(api: Api, fake: Fake, name: str) -> None:
    problem = Problem(BASE)
    handle = api.config(**BASE)
    problem.grad_outputs[name] = Buffer("float32", [4])
    assert problem.run(api, handle, BACKWARD) == INVALID
    assert f"{name} is given" in api.error()
    assert fake.calls() == []
    api.destroy(handle)


@pytest.mark.parametrize("name", ["o", "lse", "d_o", "dq", "dk", "dv", "dbias", "d_softmax_offset"])
def test_backward_needs_every_tensor(api: Api, fake: Fake, name: str) -> None:
    attributes = BASE | {"bias_type": 2, "bias_grad": 1, "softmax_type": 2}
    problem = Problem(attributes)
    handle = api.config(**attributes)
    for tensors in (problem.grad_inputs, problem.grad_outputs):
        tensors.pop(name, None)
    assert problem.run(api, handle, BACKWARD) == INVALID
    assert f"{name} is NULL" in api.error()
    assert fake.calls() == []
    api.destroy(handle)


def test_backward_needs_a_training_config(api: Api, fake: Fake) -> None:
    attributes = BASE | {"is_training": 0}
    handle = api.config(**attributes)
    assert Problem(attributes).run(api, handle, BACKWARD) == INVALID
    assert "set is_training to 1" in api.error()
    api.destroy(handle)


def test_lse_is_optional_when_not_training(api: Api, fake: Fake) -> None:
    for is_training, expected in ((0, SUCCESS), (1, INVALID)):
        attributes = BASE | {"is_training": is_training}
        problem = Problem(attributes)
        del problem.outputs["lse"]
        handle = api.config(**attributes)
        assert problem.run(api, handle, FORWARD) == expected
        api.destroy(handle)


def test_misaligned_and_oversized_structs(api: Api, fake: Fake) -> None:
    problem = Problem(BASE)
    handle = api.config(**BASE)
    inputs, outputs = pack(Inputs, problem.inputs), pack(Outputs, problem.outputs)
    assert api.forward(handle, ctypes.addressof(inputs) + 1, outputs) == INVALID
    assert "not aligned" in api.error()
    outputs.struct_size += 8
    assert api.forward(handle, inputs, outputs) == INVALID
    assert "struct_size" in api.error()
    inputs.q += 1
    assert api.forward(handle, inputs, outputs) == INVALID
    assert "not aligned for an NVTETensor" in api.error()
    assert fake.calls() == []
    api.destroy(handle)


def test_workspace_is_checked(api: Api, fake: Fake) -> None:
    problem = Problem(BASE_THD)
    handle = api.config(**BASE_THD)
    bundles = pack(Inputs, problem.inputs), pack(Outputs, problem.outputs)
    workspace = problem.workspace(api, handle, FORWARD)
    assert workspace is not None
    assert api.forward(handle, *bundles, None) == INVALID
    workspace.tensor.data += 16
    assert api.forward(handle, *bundles, workspace) == INVALID
    assert "aligned to 256 bytes" in api.error()
    workspace.tensor.data -= 16
    workspace.tensor.shape[0] -= 1
    assert api.forward(handle, *bundles, workspace) == TOO_SMALL
    assert "nvte_fused_attn_workspace_size" in api.error()
    workspace.tensor.shape[0] = -1
    assert api.forward(handle, *bundles, workspace) == TOO_SMALL
    assert fake.calls() == []
    api.destroy(handle)


def test_cu_seqlens_may_be_longer_but_not_shorter(api: Api, fake: Fake) -> None:
    for entries, expected in ((2, INVALID), (3, SUCCESS), (40, SUCCESS)):
        problem = Problem(BASE_THD)
        problem.inputs["cu_seqlens_q"] = Buffer("int32", [entries])
        handle = api.config(**BASE_THD)
        assert problem.run(api, handle, FORWARD) == expected
        if expected == INVALID:
            assert "cu_seqlens_q has 2 entries; allowed: batch_size + 1 = 3 or more" in api.error()
        api.destroy(handle)


def test_unfused_takes_any_alignment_of_elements(api: Api, fake: Fake) -> None:
    attributes = BASE | {"backend": 66}
    problem = Problem(attributes)
    move_data(4)(problem.inputs["q"])
    handle = api.config(**attributes)
    assert problem.run(api, handle, FORWARD) == SUCCESS
    api.destroy(handle)


def test_padding_mask_needs_both_lengths(api: Api, fake: Fake) -> None:
    attributes = BASE | {"mask_type": MASKS["padding"]}
    problem = Problem(attributes)
    del problem.inputs["cu_seqlens_kv"]
    handle = api.config(**attributes)
    assert problem.run(api, handle, FORWARD) == INVALID
    assert "cu_seqlens_kv is NULL" in api.error()
    api.destroy(handle)


@pytest.mark.parametrize(
    "sizes", [{"batch_size": 0}, {"max_seqlen_q": 0}, {"max_seqlen_kv": 0}, {"batch_size": 0, "max_seqlen_kv": 0}]
)
@pytest.mark.parametrize("q_format", ["bshd", "sbhd", "bhsd", "thd"])
def test_empty_tensors_may_have_no_memory(api: Api, fake: Fake, sizes: dict[str, int], q_format: str) -> None:
    attributes = BASE | sizes | {"q_format": FORMATS[q_format], "total_tokens_q": sizes.get("max_seqlen_q", 6)}
    problem = Problem(attributes)
    for buffer in (problem.inputs | problem.grad_inputs | problem.grad_outputs).values():
        if buffer.num_bytes == 0:
            buffer.tensor.data = None
            buffer.tensor.strides[:3] = [2**62, -5, 0]
    handle = api.config(**attributes)
    assert problem.run(api, handle, FORWARD) == SUCCESS, api.error()
    assert problem.run(api, handle, BACKWARD) == SUCCESS, api.error()
    for _, fields in fake.calls():
        assert not any(str(2**62) in text or "-5" in text for text in fields.values())
    api.destroy(handle)
