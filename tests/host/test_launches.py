"""What the core launches, in which order, and how it fills AttnParams and the sequence plan: seen by a device library
that records its calls."""

from __future__ import annotations

import math

import pytest

from capi import (
    BACKENDS,
    BACKWARD,
    DEVICE_ERROR,
    DTYPES,
    FORMATS,
    FORWARD,
    INVALID,
    MASKS,
    NOT_BUILT,
    NOT_SUPPORTED,
    SUCCESS,
    Api,
    Buffer,
    Inputs,
    Outputs,
    pack,
)
from fake import Fake
from problem import BASE, BASE_THD, Problem

# Tile sizes of the recording library's instance, and of the fallback.
FWD_BLOCK_Q, BWD_BLOCK_Q, BWD_BLOCK_KV, BWD_ORDERED_BLOCK_KV = 48, 24, 96, 112
UNFUSED_BLOCK = 64
SPARE_ROWS = 128  # behind row stats


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def record(api: Api, fake: Fake, attributes: dict, direction: int) -> tuple[Problem, dict[str, dict[str, str]]]:
    """The calls of one API call, by name."""
    problem = Problem(attributes)
    handle = api.config(**attributes)
    assert problem.run(api, handle, direction) == SUCCESS, api.error()
    api.destroy(handle)
    return problem, dict(fake.calls())


@pytest.mark.parametrize(
    ("changes", "direction", "expected"),
    [
        ({}, FORWARD, "fmha_fwd"),
        ({}, BACKWARD, "delta fmha_bwd convert_dq"),
        ({"deterministic": 1}, BACKWARD, "delta fmha_bwd fmha_bwd_dq"),
        ({"deterministic": 1, "num_heads_kv": 1}, BACKWARD, "delta fmha_bwd_ordered convert_dq"),
        ({"num_heads_kv": 1}, BACKWARD, "delta fmha_bwd convert_dq"),
        ({"window_left": 3}, BACKWARD, "delta fmha_bwd_whole"),
        ({"window_left": 3, "deterministic": 1}, BACKWARD, "delta fmha_bwd_whole"),
        ({"backend": BACKENDS["unfused"]}, FORWARD, "unfused_fwd"),
        ({"backend": BACKENDS["unfused"]}, BACKWARD, "delta unfused_bwd"),
        ({"bias_type": 1}, BACKWARD, "delta fmha_bwd convert_dq"),
        ({"bias_type": 1, "bias_grad": 1}, BACKWARD, "delta fmha_bwd convert_dq bias_grad"),
        ({"softmax_type": 1}, BACKWARD, "delta fmha_bwd convert_dq"),
        ({"softmax_type": 2}, BACKWARD, "delta fmha_bwd convert_dq sink_grad"),
        ({"kv_format": FORMATS["thd"], "total_tokens_kv": 3}, FORWARD, "seq_plan fmha_fwd"),
        ({"q_format": FORMATS["thd"], "total_tokens_q": 3}, BACKWARD, "seq_plan delta fmha_bwd convert_dq"),
    ],
)
def test_order(api: Api, fake: Fake, changes: dict, direction: int, expected: str) -> None:
    _, calls = record(api, fake, BASE | changes, direction)
    assert " ".join(calls) == expected


def test_views_of_every_format(api: Api, fake: Fake) -> None:
    b, s, h, d = 2, 5, 4, 16
    strides = {"bshd": [s * h * d, h * d, d], "sbhd": [h * d, b * h * d, d], "bhsd": [h * s * d, d, s * d]}
    for name, expected in strides.items():
        problem, calls = record(api, fake, BASE | {"q_format": FORMATS[name]}, BACKWARD)
        params = calls["fmha_bwd"]
        assert numbers(params["q"]) == [problem.inputs["q"].tensor.data, *expected]
        assert numbers(params["lse"])[1:] == [stride // d for stride in expected]
        assert numbers(params["delta"])[1:] == numbers(params["lse"])[1:]
    problem, calls = record(api, fake, BASE_THD, BACKWARD)
    assert numbers(calls["fmha_bwd"]["q"]) == [problem.inputs["q"].tensor.data, 0, h * d, d]
    assert numbers(calls["fmha_bwd"]["delta"])[1:] == [0, h, 1]


def test_strides_of_size_one_are_not_looked_at(api: Api, fake: Fake) -> None:
    attributes = BASE | {"batch_size": 1, "num_heads_kv": 1}
    problem = Problem(attributes)
    for name in ("k", "v"):
        problem.inputs[name].tensor.strides[0] = 2**62
        problem.inputs[name].tensor.strides[2] = -3
    handle = api.config(**attributes)
    assert problem.run(api, handle, FORWARD) == SUCCESS, api.error()
    assert numbers(dict(fake.calls())["fmha_fwd"]["k"])[1:] == [0, 16, 0]
    api.destroy(handle)


@pytest.mark.parametrize(
    ("changes", "bottom_right", "window", "chunk"),
    [
        ({}, 0, [-1, -1], 0),
        ({"mask_type": MASKS["causal"]}, 0, [-1, 0], 0),
        ({"mask_type": MASKS["causal"], "window_left": 3, "window_right": 9}, 0, [3, 0], 0),
        ({"mask_type": MASKS["causal_bottom_right"]}, 1, [-1, 0], 0),
        ({"mask_type": MASKS["padding_causal_bottom_right"], "bottom_right_diagonal": 1}, 1, [-1, 0], 0),
        ({"window_left": 2, "window_right": 4}, 0, [2, 4], 0),
        ({"window_left": 2, "bottom_right_diagonal": 1}, 1, [2, -1], 0),
        ({"window_left": 2**63 - 1, "chunk_size": 2**63 - 1}, 0, [2**29, -1], 2**29),
        ({"chunk_size": 128}, 0, [-1, -1], 128),
    ],
)
def test_visibility(api: Api, fake: Fake, changes: dict, bottom_right: int, window: list[int], chunk: int) -> None:
    _, calls = record(api, fake, BASE | changes, FORWARD)
    params = calls["fmha_fwd"]
    assert (int(params["bottom_right"]), numbers(params["window"]), int(params["chunk"])) == (
        bottom_right,
        window,
        chunk,
    )


def test_scores(api: Api, fake: Fake) -> None:
    _, calls = record(api, fake, BASE, FORWARD)
    assert float(calls["fmha_fwd"]["scale"]) == pytest.approx(1 / math.sqrt(16))
    changes = {"attn_scale": -0.5, "softcap": 30.0, "softmax_type": 1, "bias_type": 3}
    problem, calls = record(api, fake, BASE | changes, FORWARD)
    params = calls["fmha_fwd"]
    assert (float(params["scale"]), float(params["softcap"]), params["bias_kind"]) == (-0.5, 30.0, "3")
    assert numbers(params["sink"]) == [1, 0, 0]
    assert numbers(params["alibi"]) == [problem.inputs["alibi_slopes"].tensor.data, 0]


def test_slopes_for_each_batch_entry(api: Api, fake: Fake) -> None:
    attributes = BASE | {"bias_type": 3}
    problem = Problem(attributes)
    problem.inputs["alibi_slopes"] = Buffer("float32", [2, 4])
    handle = api.config(**attributes)
    assert problem.run(api, handle, FORWARD) == SUCCESS, api.error()
    assert numbers(dict(fake.calls())["fmha_fwd"]["alibi"])[1] == 4
    api.destroy(handle)


def test_bias_broadcasts_by_stride_zero(api: Api, fake: Fake) -> None:
    changes = {"bias_type": 2, "bias_grad": 1, "bias_heads": 4, "bias_seqlen_q": 1, "bias_seqlen_kv": 10}
    problem, calls = record(api, fake, BASE | changes, BACKWARD)
    params = calls["bias_grad"]
    assert numbers(params["bias"]) == [problem.inputs["bias"].tensor.data, 0, 10, 0, 1]
    assert numbers(params["dbias"]) == [problem.grad_outputs["dbias"].tensor.data, 0, 10, 0, 1]
    assert numbers(params["bias_shape"]) == [1, 4, 1, 10]


def test_mask_broadcasts_by_stride_zero(api: Api, fake: Fake) -> None:
    problem, calls = record(api, fake, BASE | {"mask_type": MASKS["arbitrary"]}, FORWARD)
    assert numbers(calls["unfused_fwd"]["mask"]) == [problem.inputs["attention_mask"].tensor.data, 35, 0, 7, 1]


@pytest.mark.parametrize(("is_training", "dropout", "expected"), [(1, 0.25, 0.25), (1, 0.99999999, 65535 / 65536)])
def test_dropout(api: Api, fake: Fake, is_training: int, dropout: float, expected: float) -> None:
    problem, calls = record(api, fake, BASE | {"dropout": dropout, "is_training": is_training}, FORWARD)
    probability, state = calls["fmha_fwd"]["dropout"].split(",")
    assert float(probability) == pytest.approx(expected) and int(state) == problem.inputs["rng_state"].tensor.data


def test_dropout_is_off_when_not_training(api: Api, fake: Fake) -> None:
    _, calls = record(api, fake, BASE | {"dropout": 0.5, "is_training": 0}, FORWARD)
    assert calls["fmha_fwd"]["dropout"] == "0,0"


def test_lengths_of_a_padding_mask(api: Api, fake: Fake) -> None:
    problem, calls = record(api, fake, BASE | {"mask_type": MASKS["padding"]}, FORWARD)
    assert numbers(calls["fmha_fwd"]["q_side"])[:3] == [0, 5, problem.inputs["cu_seqlens_q"].tensor.data]
    assert numbers(calls["fmha_fwd"]["kv_side"])[:3] == [0, 7, problem.inputs["cu_seqlens_kv"].tensor.data]


@pytest.mark.parametrize(
    ("changes", "direction", "rows_q", "rows_kv"),
    [
        ({}, FORWARD, FWD_BLOCK_Q, 0),
        ({}, BACKWARD, 0, BWD_BLOCK_KV),
        ({"deterministic": 1}, BACKWARD, BWD_BLOCK_Q, BWD_BLOCK_KV),
        ({"backend": BACKENDS["unfused"]}, FORWARD, UNFUSED_BLOCK, 0),
        ({"backend": BACKENDS["unfused"]}, BACKWARD, UNFUSED_BLOCK, UNFUSED_BLOCK),
    ],
)
def test_sequence_plan(api: Api, fake: Fake, changes: dict, direction: int, rows_q: int, rows_kv: int) -> None:
    attributes = BASE_THD | changes
    problem, calls = record(api, fake, attributes, direction)
    kernel = next(fields for name, fields in calls.items() if name.endswith(("_fwd", "_bwd")))
    for side, rows in (("q", rows_q), ("kv", rows_kv)):
        cu, padded, tokens, tile_rows, capacity, spans, tiles, num_tiles = numbers(calls["seq_plan"][side])
        assert (cu, padded) == (problem.inputs[f"cu_seqlens_{side}"].tensor.data, 0)
        assert (tokens, tile_rows) == (attributes[f"total_tokens_{side}"], rows)
        assert capacity == (tokens // rows + 3 if rows else 0)
        assert spans != 0 and (tiles != 0) == (num_tiles != 0) == (rows != 0)
        assert numbers(kernel[f"{side}_side"]) == [1, tokens, 0, spans, tiles, num_tiles]


@pytest.mark.parametrize(("direction", "zeroed_by"), [(FORWARD, "seq_plan"), (BACKWARD, "delta")])
def test_a_launch_before_the_kernel_zeroes_its_counter_of_work(
    api: Api, fake: Fake, direction: int, zeroed_by: str
) -> None:
    _, calls = record(api, fake, BASE_THD, direction)
    kernel = next(fields for name, fields in calls.items() if name.endswith(("_fwd", "_bwd")))
    assert int(kernel["next_item"]) != 0
    zeroing = {name for name in ("seq_plan", "delta") if int(calls.get(name, {}).get("next_item", 0))}
    assert zeroing == {zeroed_by}
    assert calls[zeroed_by]["next_item"] == kernel["next_item"]


@pytest.mark.parametrize("base", [BASE, BASE_THD])
@pytest.mark.parametrize(
    ("changes", "adds_dq", "in_order"),
    [
        ({}, True, False),
        ({"num_heads_kv": 1}, True, False),
        ({"deterministic": 1}, False, False),
        ({"deterministic": 1, "num_heads_kv": 1}, True, True),
        ({"num_heads_kv": 1, "window_left": 2}, True, True),
    ],
)
def test_a_kernel_finds_where_it_adds_dq_and_whether_in_turns(
    api: Api, fake: Fake, base: dict, changes: dict, adds_dq: bool, in_order: bool
) -> None:
    _, calls = record(api, fake, base | changes, BACKWARD)
    kernel = calls["fmha_bwd_ordered" if in_order else "fmha_bwd"]
    for params in (calls["delta"], kernel):
        assert (int(params["dq_accum"]) != 0, int(params["dq_turns"]) != 0) == (adds_dq, in_order)
    assert calls["delta"]["dq_turns"] == kernel["dq_turns"]
    if base is BASE_THD:
        assert numbers(calls["seq_plan"]["kv"])[3] == (BWD_ORDERED_BLOCK_KV if in_order else BWD_BLOCK_KV)


@pytest.mark.parametrize("base", [BASE, BASE_THD])
@pytest.mark.parametrize(
    ("changes", "stores_first", "writes_dq"),
    [
        ({}, 0, 0),
        ({"deterministic": 1}, 0, 0),
        ({"deterministic": 1, "num_heads_kv": 1}, 1, 0),
        ({"window_left": 3}, 1, 1),
    ],
)
def test_delta_knows_what_the_kernel_leaves_out(
    api: Api, fake: Fake, base: dict, changes: dict, stores_first: int, writes_dq: int
) -> None:
    _, calls = record(api, fake, base | changes, BACKWARD)
    assert (int(calls["delta"]["stores_first"]), int(calls["delta"]["writes_dq"])) == (stores_first, writes_dq)


@pytest.mark.parametrize("base", [BASE, BASE_THD])
@pytest.mark.parametrize("changes", [{}, {"deterministic": 1}, {"deterministic": 1, "num_heads_kv": 1}])
def test_delta_writes_row_stats_for_a_kernel_that_reads_them(api: Api, fake: Fake, base: dict, changes: dict) -> None:
    _, calls = record(api, fake, base | changes, BACKWARD)
    is_read = "fmha_bwd_ordered" in calls
    assert is_read == ("num_heads_kv" in changes)
    kernel = calls["fmha_bwd_ordered" if is_read else "fmha_bwd"]
    assert (int(kernel["row_stats"]) != 0) == is_read
    assert calls["delta"]["row_stats"] == kernel["row_stats"]


def test_padded_starts_reach_the_plan(api: Api, fake: Fake) -> None:
    problem = Problem(BASE_THD)
    problem.inputs["cu_seqlens_kv_padded"] = Buffer("int32", [3])
    handle = api.config(**BASE_THD)
    assert problem.run(api, handle, FORWARD) == SUCCESS, api.error()
    assert numbers(dict(fake.calls())["seq_plan"]["kv"])[1] == problem.inputs["cu_seqlens_kv_padded"].tensor.data
    api.destroy(handle)


@pytest.mark.parametrize("direction", [FORWARD, BACKWARD])
@pytest.mark.parametrize(
    "changes",
    [{}, {"deterministic": 1}, {"deterministic": 1, "num_heads_kv": 1}, {"backend": BACKENDS["unfused"]}],
)
@pytest.mark.parametrize("base", [BASE, BASE_THD])
def test_workspace_pieces_are_disjoint_and_inside(
    api: Api, fake: Fake, base: dict, changes: dict, direction: int
) -> None:
    problem, calls = record(api, fake, base | changes, direction)
    workspace = problem.last_workspace
    if workspace is None:
        assert base is BASE and direction == FORWARD
        return
    end = first = workspace.tensor.data
    for start, size in sorted(workspace_pieces(problem, calls)):
        assert start % 256 == 0 and start >= end
        end = start + size
    assert end <= first + workspace.num_bytes


def workspace_pieces(problem: Problem, calls: dict[str, dict[str, str]]) -> list[tuple[int, int]]:
    """(address, bytes) of everything that the launches of a call find in their workspace."""
    pieces: list[tuple[int, int]] = []
    for side in ("q", "kv") if "seq_plan" in calls else ():
        *_, capacity, spans, tiles, num_tiles = numbers(calls["seq_plan"][side])
        sized = [(spans, 12 * (problem.batch + 1)), (tiles, 8 * capacity), (num_tiles, 4)]
        pieces += [(address, size) for address, size in sized if address]
    if counter := max((int(fields.get("next_item", 0)) for fields in calls.values()), default=0):
        pieces.append((counter, 4))
    if "delta" in calls:
        rows = problem.attributes.get("total_tokens_q", problem.batch * problem.attributes["max_seqlen_q"])
        pieces.append((numbers(calls["delta"]["delta"])[0], 4 * rows * problem.heads))
        accum = int(calls["delta"]["dq_accum"])
        if accum:
            pieces.append((accum, 4 * rows * problem.heads * problem.attributes["head_dim_qk"]))
        turns = int(calls["delta"]["dq_turns"])
        if turns:
            pieces.append((turns, 4 * 2 * math.ceil(rows / 16) * problem.heads))
        stats = int(calls["delta"]["row_stats"])
        if stats:
            pieces.append((stats, 4 * (2 * math.ceil(rows / 16) * 16 * problem.heads + SPARE_ROWS)))
    return pieces


def test_choice_is_made_again_when_an_attribute_changes(api: Api, fake: Fake) -> None:
    handle = api.config(**BASE)
    assert api.backend(handle) == (SUCCESS, "fused_varlen")
    assert api.set(handle, "head_dim_v", 20) == SUCCESS
    assert api.backend(handle) == (SUCCESS, "unfused")
    assert api.set(handle, "backend", BACKENDS["fused_varlen"]) == SUCCESS
    status, name = api.backend(handle)
    assert (status, name) == (NOT_SUPPORTED, "none")
    assert "head_dim_v is 20 (allowed: multiples of 8 up to 256)" in api.error()
    api.destroy(handle)


def test_strict_refuses_a_fallback(api: Api, fake: Fake) -> None:
    handle = api.config(**BASE | {"dtype": DTYPES["float64"], "strict": 1})
    assert api.backend(handle) == (NOT_SUPPORTED, "none")
    assert "strict is 1" in api.error() and "dtype is fp64 (allowed: fp32, fp16, bf16)" in api.error()
    assert api.set(handle, "backend", BACKENDS["unfused"]) == SUCCESS
    assert api.backend(handle) == (SUCCESS, "unfused"), "asking for a row by name is no fallback"
    api.destroy(handle)


@pytest.mark.parametrize(
    ("direction", "step", "words"),
    [(FORWARD, "fmha_fwd", "the forward"), (BACKWARD, "delta", "delta"), (BACKWARD, "convert_dq", "the backward")],
)
def test_device_errors_are_told(api: Api, fake: Fake, direction: int, step: str, words: str) -> None:
    fake.fail(step)
    handle = api.config(**BASE)
    assert Problem(BASE).run(api, handle, direction) == DEVICE_ERROR
    assert f"launching {words} of fused_varlen" in api.error() and "told to fail (error 77)" in api.error()
    assert [name for name, _ in fake.calls()][-1] == step, "nothing is launched after a failure"
    api.destroy(handle)


def test_other_device_is_current_during_launches_only(api: Api, fake_cuda: Fake) -> None:
    attributes = BASE_THD | {"device_type": 1, "device_index": 1}
    problem = Problem(attributes, device_type=1, device_index=1)
    handle = api.config(**attributes)
    assert problem.run(api, handle, BACKWARD) == SUCCESS, api.error()
    calls = fake_cuda.calls()
    assert [fields["device"] for name, fields in calls if name != "seq_plan"] == ["1"] * 3
    assert fake_cuda.lib.fake_current_device() == 0
    assert api.set(handle, "device_index", 2) == SUCCESS
    assert api.backend(handle) == (INVALID, "none")
    assert "finds 2 device(s)" in api.error()
    api.destroy(handle)


def test_missing_library_is_a_reason(api: Api, fake: Fake) -> None:
    attributes = BASE | {"device_type": 2}
    handle = api.config(**attributes)
    assert api.backend(handle) == (NOT_BUILT, "none")
    assert "no device library for hip" in api.error() and "libportattn_hip.so" in api.error()
    assert "fused_varlen: refused: no device library for hip" in api.explain(handle)
    inputs, outputs = pack(Inputs, {}), pack(Outputs, {})
    assert api.forward(handle, inputs, outputs) == NOT_BUILT
    api.destroy(handle)
