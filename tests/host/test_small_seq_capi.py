"""The small-sequence functions of the C API, and the row that serves them: what is launched, what is refused, and that
asking by name leaves the config as it is."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_size_t, c_void_p

import pytest

from capi import (
    BACKENDS,
    BACKWARD,
    FORWARD,
    INVALID,
    NOT_SUPPORTED,
    SUCCESS,
    Api,
    GradInputs,
    GradOutputs,
    Outputs,
    _bundle,
    pack,
)
from fake import Fake
from problem import BASE, BASE_THD, Problem

SmallInputs = _bundle(
    "SmallInputs", "q", "k", "v", "cu_seqlens_q", "cu_seqlens_kv", "cu_seqlens_q_padded", "cu_seqlens_kv_padded"
)
PROMISE = {"max_segment_seqlen_q": 1, "max_segment_seqlen_kv": 16}


class SmallSeq:
    """The functions of small_seq.h on one config."""

    def __init__(self, api: Api, attributes: dict):
        self.api, self.problem = api, Problem(attributes)
        self.handle = api.config(**attributes)
        for name, arguments in (("fwd", 5), ("bwd", 6), ("fwd_workspace_size", 2), ("bwd_workspace_size", 2)):
            getattr(api.lib, f"nvte_fused_attn_small_seq_{name}").argtypes = [c_void_p] * arguments
        api.lib.nvte_is_small_seq_attn_supported.argtypes = [c_void_p] * 2

    def supported(self) -> tuple[int, int]:
        answer = c_int32(-1)
        status = self.api.lib.nvte_is_small_seq_attn_supported(self.handle, ctypes.addressof(answer))
        return status, answer.value

    def workspace_bytes(self, direction: int) -> int:
        size = c_size_t()
        name = "bwd" if direction == BACKWARD else "fwd"
        function = getattr(self.api.lib, f"nvte_fused_attn_small_seq_{name}_workspace_size")
        assert function(self.handle, ctypes.addressof(size)) == SUCCESS, self.api.error()
        return size.value

    def run(self, direction: int, inputs: object = None) -> int:
        problem = self.problem
        size = self.workspace_bytes(direction)
        workspace = problem._make("byte", [size]) if size else None
        bundles = [inputs or pack(SmallInputs, problem.inputs)]
        if direction == FORWARD:
            bundles += [pack(Outputs, problem.outputs)]
        else:
            bundles += [pack(GradInputs, problem.grad_inputs), pack(GradOutputs, problem.grad_outputs)]
        addresses = [ctypes.addressof(bundle) for bundle in bundles]
        function = getattr(self.api.lib, f"nvte_fused_attn_small_seq_{'bwd' if direction == BACKWARD else 'fwd'}")
        return function(self.handle, *addresses, ctypes.addressof(workspace.tensor) if workspace else None, None)


@pytest.mark.parametrize(
    ("base", "direction", "expected"),
    [
        (BASE, FORWARD, "small_seq_fwd"),
        (BASE, BACKWARD, "small_seq_bwd"),
        (BASE_THD, FORWARD, "seq_plan small_seq_fwd"),
        (BASE_THD, BACKWARD, "seq_plan small_seq_bwd"),
    ],
)
def test_one_kernel_a_direction(api: Api, fake: Fake, base: dict, direction: int, expected: str) -> None:
    call = SmallSeq(api, base)
    assert call.run(direction) == SUCCESS, api.error()
    assert " ".join(name for name, _ in fake.calls()) == expected
    assert api.backend(call.handle) == (SUCCESS, "fused_varlen"), "the config itself has not changed"
    api.destroy(call.handle)


def test_workspace_is_the_plan_and_nothing_else(api: Api, fake: Fake) -> None:
    dense, packed = SmallSeq(api, BASE), SmallSeq(api, BASE_THD)
    assert dense.workspace_bytes(FORWARD) == dense.workspace_bytes(BACKWARD) == 0
    assert packed.workspace_bytes(FORWARD) == packed.workspace_bytes(BACKWARD) == 2 * 256
    for call in (dense, packed):
        api.destroy(call.handle)


def test_a_promise_reaches_it_through_the_general_functions(api: Api, fake: Fake) -> None:
    problem = Problem(BASE | PROMISE)
    handle = api.config(**BASE | PROMISE)
    assert api.backend(handle) == (SUCCESS, "small_seq")
    assert problem.run(api, handle, BACKWARD) == SUCCESS, api.error()
    assert [name for name, _ in fake.calls()] == ["small_seq_bwd"]
    api.destroy(handle)


def test_support_is_told(api: Api, fake: Fake) -> None:
    call = SmallSeq(api, BASE)
    assert call.supported() == (SUCCESS, 1)
    assert api.set(call.handle, "dropout", 0.1) == SUCCESS
    assert call.supported() == (SUCCESS, 0) and api.error() == ""
    size = c_size_t()
    function = api.lib.nvte_fused_attn_small_seq_fwd_workspace_size
    assert function(call.handle, ctypes.addressof(size)) == NOT_SUPPORTED
    assert "dropout is 0.1 (allowed: 0)" in api.error()
    assert api.set(call.handle, "dropout", 0) == SUCCESS
    assert call.supported() == (SUCCESS, 1), "an attribute that changes is seen"
    api.destroy(call.handle)


def test_another_backend_by_name_contradicts(api: Api, fake: Fake) -> None:
    call = SmallSeq(api, BASE | {"backend": BACKENDS["unfused"]})
    assert call.supported() == (INVALID, 0)
    assert "backend is unfused, but the function asks for small_seq" in api.error()
    api.destroy(call.handle)


def test_wrong_arguments(api: Api, fake: Fake) -> None:
    call = SmallSeq(api, BASE)
    inputs = pack(SmallInputs, call.problem.inputs)
    inputs.struct_size -= 8
    assert call.run(FORWARD, inputs) == INVALID and "inputs has struct_size" in api.error()
    missing = pack(SmallInputs, {name: call.problem.inputs[name] for name in ("q", "k")})
    assert call.run(FORWARD, missing) == INVALID and "v" in api.error()
    lib = api.lib
    assert lib.nvte_is_small_seq_attn_supported(call.handle, None) == INVALID and "supported is NULL" in api.error()
    assert (
        lib.nvte_fused_attn_small_seq_fwd(None, None, None, None, None) == INVALID and "config is NULL" in api.error()
    )
    assert lib.nvte_fused_attn_small_seq_bwd(call.handle, None, None, None, None, None) == INVALID
    assert "inputs is NULL" in api.error()
    api.destroy(call.handle)
