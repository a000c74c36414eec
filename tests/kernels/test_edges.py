"""Edges, one named test each, on both backends: nothing to attend to, nothing to compute, hostile offsets, extreme
numbers. check_case compares with float64, so "defined" here always means the value that docs/numerics.md defines.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portattn.testing import capi
from portattn.testing.compare import magnitude, max_error
from portattn.testing.random_config import Case, Side
from portattn.testing.reference import Span
from portattn.testing.runner import (
    check_case,
    check_results,
    make_config,
    make_problem,
    run_backward,
    run_forward,
)

THD = Side("thd", (30, 70, 5))
PADDING_MASKS = ("padding", "padding_causal", "padding_causal_bottom_right")


@pytest.fixture(params=["fused_varlen", "unfused"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


# ---- empty sequences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", PADDING_MASKS)
@pytest.mark.parametrize("fmt", ["thd", "bshd", "sbhd", "bhsd"])
def test_zero_length_queries_and_keys(mask: str, fmt: str, device: str, backend: str) -> None:
    case = Case(q=Side(fmt, (0, 40, 70, 0)), kv=Side(fmt, (50, 0, 33, 0)), mask=mask)
    check_case(case, device, backend)


@pytest.mark.parametrize("softmax", ["vanilla", "off-by-one", "learnable"])
def test_keys_of_every_sequence_are_empty(softmax: str, device: str, backend: str) -> None:
    kv = Side("thd", (0, 0), tail=10)
    check_case(Case(q=Side("thd", (20, 70)), kv=kv, mask="padding", softmax=softmax), device, backend)


@pytest.mark.parametrize("lens", [((20, 70), (0, 0)), ((0, 0), (20, 70)), ((0, 0), (0, 0))])
def test_a_buffer_has_no_tokens(lens: tuple[tuple[int, ...], ...], device: str, backend: str) -> None:
    sides = [Side("thd", side) for side in lens]
    check_case(Case(q=sides[0], kv=sides[1], mask="padding"), device, backend)


@pytest.mark.parametrize("fmt", ["thd", "bshd"])
def test_all_sequences_are_empty(fmt: str, device: str, backend: str) -> None:
    side = Side(fmt, (0, 0, 0), extra=40, tail=40)
    check_case(Case(q=side, kv=side, mask="padding_causal"), device, backend)


@pytest.mark.parametrize("softmax", ["vanilla", "learnable"])
def test_rows_above_a_bottom_right_diagonal_see_nothing(softmax: str, device: str, backend: str) -> None:
    case = Case(q=Side(lens=(130, 130)), kv=Side(lens=(20, 20)), mask="causal_bottom_right", softmax=softmax)
    check_case(case, device, backend)


def test_a_window_right_of_every_key_sees_nothing(device: str, backend: str) -> None:
    case = Case(q=Side(lens=(100,)), kv=Side(lens=(10,)), mask="no_mask", window=(3, 3))
    check_case(case, device, backend)


def test_one_query_one_key(device: str, backend: str) -> None:
    check_case(Case(q=Side(lens=(1,)), kv=Side(lens=(1,)), odd_strides=True), device, backend)


# ---- padding ---------------------------------------------------------------------------------------------------


def test_tokens_before_between_and_after_sequences(device: str, backend: str) -> None:
    side = Side("thd", (30, 0, 65, 1), gaps=(3, 70, 0, 20), lead=80, tail=150)
    check_case(Case(q=side, kv=side, mask="padding_causal", dtype="bfloat16"), device, backend)


def test_leading_gap_without_padded_offsets(device: str, backend: str) -> None:
    side = Side("thd", (30, 65), lead=80, tail=10)
    check_case(Case(q=side, kv=side, mask="padding"), device, backend)


def test_offsets_longer_than_the_batch(device: str, backend: str) -> None:
    side = Side("thd", (30, 65), cu_extra=9)
    check_case(Case(q=side, kv=side, mask="padding"), device, backend)


def test_queries_packed_and_keys_padded(device: str, backend: str) -> None:
    case = Case(q=Side("thd", (30, 65), tail=4), kv=Side("bshd", (90, 17), extra=6), mask="padding_causal_bottom_right")
    check_case(case, device, backend)


def test_infinite_padding_is_as_harmless_as_nan(device: str, backend: str) -> None:
    side = Side("bshd", (30, 65), extra=40)
    problem = make_problem(Case(q=side, kv=side, mask="padding", dtype="float16"), device)
    for name in ("q", "k", "v"):
        problem.inputs[name].nan_to_num_(nan=torch.inf)
    problem.d_o.nan_to_num_(nan=-torch.inf)
    outputs = run_forward(problem, backend)
    check_results(problem, outputs | run_backward(problem, outputs, backend))


# ---- offsets of any content ------------------------------------------------------------------------------------

HOSTILE = {
    "decreasing": (0, 60, 20, 105),
    "falling": (105, 70, 30, 0),
    "negative": (-50, 30, 100, 105),
    "beyond_the_buffer": (0, 30, 5000, 2**31 - 1),
    "all_beyond": (500, 600, 700, 800),
    "extreme": (-(2**31), 2**31 - 1, -(2**31), 2**31 - 1),
}


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("fmt", ["thd", "bshd"])
@pytest.mark.parametrize("mask", ["padding", "padding_causal_bottom_right"])
def test_hostile_offsets(content: str, fmt: str, mask: str, device: str, backend: str) -> None:
    side = replace(THD, format=fmt, cu_seqlens=HOSTILE[content])
    check_case(Case(q=side, kv=side, mask=mask), device, backend)
    check_case(Case(q=side, kv=replace(THD, format=fmt), mask=mask, deterministic=True), device, backend)


@pytest.mark.parametrize("starts", [(0, 10, 20, 105), (60, 30, 0, 105), (-5, 90, 104, 105), (0, 2**31 - 1, 5, 5)])
def test_hostile_starts_overlap(starts: tuple[int, ...], device: str, backend: str) -> None:
    side = replace(THD, cu_seqlens_padded=starts)
    check_case(Case(q=side, kv=side, mask="padding_causal"), device, backend)


# ---- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [-0.5, 8.0, 1e-30])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_odd_scales(scale: float, dtype: str, device: str, backend: str) -> None:
    check_case(Case(q=Side(lens=(70, 70)), kv=Side(lens=(90, 90)), scale=scale, dtype=dtype), device, backend)


def test_scores_beyond_the_range_of_exp(device: str, backend: str) -> None:
    """Scores of several thousand: a softmax that forgets to subtract the maximum overflows."""
    problem = make_problem(Case(q=Side(lens=(70,)), kv=Side(lens=(90,)), scale=1.0), device)
    problem.inputs["q"].mul_(300)
    outputs = run_forward(problem, backend)
    results = outputs | run_backward(problem, outputs, backend)
    assert all(bool(tensor.isfinite().all()) for tensor in results.values())
    assert max_error(results["dv"].sum(), problem.d_o.sum()) < 1e-2


def test_minus_infinity_in_the_bias_hides_keys_and_rows(device: str, backend: str) -> None:
    case = Case(q=Side(lens=(70, 70)), kv=Side(lens=(90, 90)), bias="post_scale_bias", bias_shape="bhss")
    problem = make_problem(case, device)
    problem.inputs["bias"][:, :, 3:9, :] = -torch.inf
    problem.inputs["bias"][:, :, :, 5:80:3] = -torch.inf
    outputs = run_forward(problem, backend)
    check_results(problem, outputs | run_backward(problem, outputs, backend))


def test_a_sink_far_above_the_scores_takes_everything(device: str, backend: str) -> None:
    problem = make_problem(Case(q=Side(lens=(20,)), kv=Side(lens=(30,)), softmax="learnable"), device)
    problem.inputs["softmax_offset"].fill_(300.0)
    outputs = run_forward(problem, backend)
    assert bool((outputs["o"] == 0).all()) and max_error(outputs["lse"], torch.full_like(outputs["lse"], 300.0)) < 1e-3
    assert all(bool(grad.isfinite().all()) for grad in run_backward(problem, outputs, backend).values())


def test_a_sink_of_minus_infinity_is_no_sink(device: str, backend: str) -> None:
    problem = make_problem(Case(q=Side(lens=(70,)), kv=Side(lens=(30,)), softmax="learnable",
                                mask="causal_bottom_right"), device)  # fmt: skip
    problem.inputs["softmax_offset"].fill_(-torch.inf)
    outputs = run_forward(problem, backend)
    check_results(problem, outputs | run_backward(problem, outputs, backend))


# ---- heads, dims and long rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d_qk,d_v", [(8, 8), (48, 48), (72, 72), (104, 104), (160, 160), (192, 128), (248, 256)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_head_dims_between_the_built_ones(d_qk: int, d_v: int, dtype: str, device: str) -> None:
    case = Case(q=Side(lens=(70,)), kv=Side(lens=(90,)), d_qk=d_qk, d_v=d_v, dtype=dtype, layout="gapped")
    check_case(case, device, "fused_varlen")


@pytest.mark.parametrize("d_qk,d_v", [(1, 1), (1, 300), (3, 2), (513, 7), (1024, 1024)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_any_head_dim_is_served_by_unfused(d_qk: int, d_v: int, dtype: str, device: str) -> None:
    check_case(Case(q=Side(lens=(20,)), kv=Side(lens=(30,)), d_qk=d_qk, d_v=d_v, dtype=dtype), device, "unfused")


@pytest.mark.parametrize("heads_q,heads_kv", [(32, 1), (24, 8)])
def test_many_query_heads_to_a_key_head(heads_q: int, heads_kv: int, device: str, backend: str) -> None:
    check_case(Case(q=THD, kv=THD, heads_q=heads_q, heads_kv=heads_kv, mask="padding_causal"), device, backend)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_of_many_key_blocks(dtype: str, device: str, backend: str) -> None:
    """The running maximum grows over many blocks; one decode query against a long cache."""
    case = Case(q=Side("thd", (1, 700)), kv=Side("thd", (1500, 700)), mask="padding_causal_bottom_right", dtype=dtype)
    check_case(case, device, backend)


def test_seventy_thousand_short_sequences(device: str, backend: str) -> None:
    """More sequences than a grid's y has blocks (65,535) and a planner of many chunks."""
    batch = 70_000
    lens = tuple(1 + i % 2 for i in range(batch))
    case = Case(q=Side("thd", lens), kv=Side("thd", lens), mask="padding", heads_q=1, heads_kv=1, d_qk=8, d_v=8)
    problem = make_problem(replace(case, q=Side("thd", (1,)), kv=Side("thd", (1,))), device)
    tokens = torch.randn(3, case.q.tokens, 1, 8, device=device)
    offsets = torch.tensor(case.q.offsets(), dtype=torch.int32, device=device)
    problem.case = case
    problem.inputs = {"q": tokens[0], "k": tokens[1], "v": tokens[2], "cu_seqlens_q": offsets, "cu_seqlens_kv": offsets}
    problem.d_o = torch.randn_like(tokens[0])
    outputs = run_forward(problem, backend)
    gradients = run_backward(problem, outputs, backend)
    ones, pairs = _rows_of(case.q.spans(), 1), _rows_of(case.q.spans(), 2)
    assert torch.equal(outputs["o"][ones], tokens[2][ones])
    q, k, v = (t[pairs].double().view(-1, 2, 8).requires_grad_() for t in tokens)
    expected = torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v
    expected_gradients = torch.autograd.grad(expected, (q, k, v), problem.d_o[pairs].double().view(-1, 2, 8))
    results = (outputs["o"], gradients["dq"], gradients["dk"], gradients["dv"])
    for result, truth in zip(results, (expected, *expected_gradients), strict=True):
        assert max_error(result[pairs].view(-1, 2, 8), truth) < 1e-5 * magnitude(truth)


def _rows_of(spans: list[Span], length: int) -> torch.Tensor:
    starts = torch.tensor([span.start for span in spans if span.length == length])
    return (starts[:, None] + torch.arange(length)).flatten()


# ---- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [Case(mask="arbitrary"), Case(dtype="float64"), Case(d_qk=12, d_v=12), Case(d_qk=264, d_v=264)]
)
def test_fused_varlen_refuses_what_only_unfused_takes(case: Case, device: str) -> None:
    problem = make_problem(case, device)
    with pytest.raises(capi.NVTEError, match="not_supported"):
        run_forward(problem, "fused_varlen")
    assert make_config(problem).backend() == "unfused"
    check_case(case, device)
