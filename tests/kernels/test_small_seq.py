"""The small-sequence backend: its own random cases, every length, packings of thousands of segments, broken promises,
hostile offsets. Gradients are of O(1) random cotangents and compared tensor by tensor; padding is NaN on the way in.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
import torch

from portattn.testing import capi
from portattn.testing.compare import FLOORS, magnitude, max_error
from portattn.testing.random_config import Case, Side
from portattn.testing.runner import Problem, check_case, make_config, make_problem, run_backward, run_forward
from portattn.testing.small_seq import broken_promise, cross_attention_oracle, random_small_case

SMALL = "small_seq"
# Which backend runs the forward and which the backward: one aux contract, so any pair works.
PAIRS = ((SMALL, SMALL), (SMALL, SMALL), (SMALL, "unfused"), ("unfused", SMALL))


@pytest.mark.parametrize("seed", range(300))
def test_random_case(seed: int, device: str) -> None:
    check_case(random_small_case(seed), device, *PAIRS[seed % len(PAIRS)])


@pytest.mark.parametrize("seed", range(1000, 1080))
def test_segments_longer_than_promised(seed: int, device: str) -> None:
    check_case(broken_promise(random_small_case(seed)), device, SMALL)


@pytest.mark.parametrize("seed", range(2000, 2040))
def test_backward_of_another_backends_forward(seed: int, device: str) -> None:
    case = random_small_case(seed)
    other = "unfused" if max(case.d_qk, case.d_v) > 256 else "fused_varlen"
    check_case(case, device, *((other, SMALL) if seed % 2 else (SMALL, other)))


@pytest.mark.parametrize("len_kv", range(33))
@pytest.mark.parametrize("len_q", [0, 1, 2, 3])
def test_every_number_of_keys(len_q: int, len_kv: int, device: str) -> None:
    q, kv = Side("thd", (len_q, 1, len_q)), Side("thd", (len_kv, 3, len_kv), gaps=(1, 0, 2), tail=1)
    case = Case(q=q, kv=kv, mask="padding", d_qk=64, d_v=64, promised=(max(len_q, 1), max(len_kv, 3)))
    check_case(replace(case, dtype="float32" if len_kv % 3 else "bfloat16"), device, SMALL)


@pytest.mark.parametrize("mask", ["padding", "padding_causal"])
@pytest.mark.parametrize("length", [15, 16, 17, 31, 32])
@pytest.mark.parametrize("heads", [(3, 3), (8, 2)])
def test_self_attention(length: int, mask: str, heads: tuple[int, int], device: str) -> None:
    side = Side("thd", (length, length, length - 3, 0, length))
    check_case(
        Case(q=side, kv=side, heads_q=heads[0], heads_kv=heads[1], mask=mask, d_qk=128, d_v=128, dtype="float16",
             promised=(length, length)), device, SMALL)  # fmt: skip


@pytest.mark.parametrize("head_dim", [*range(8, 257, 8), 512])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_head_dim(head_dim: int, dtype: str, device: str) -> None:
    q, kv = Side("thd", (1, 1, 1)), Side("thd", (2, 16, 7))
    check_case(Case(q=q, kv=kv, dtype=dtype, d_qk=head_dim, d_v=head_dim, mask="padding", promised=(1, 16)), device,
               SMALL)  # fmt: skip


@pytest.mark.parametrize("promised", [2, 4, 5, 8, 9, 16, 17, 32])
@pytest.mark.parametrize("head_dim", [64, 256, 512])
def test_every_kernel_takes_every_length(promised: int, head_dim: int, device: str) -> None:
    """Kernels are chosen by the promise, lengths come as they come."""
    q, kv = Side("thd", (1, 1, 2, 1, 0)), Side("thd", (1, 4, 9, 33, 16))
    case = Case(q=q, kv=kv, mask="padding", dtype="float16", d_qk=head_dim, d_v=head_dim, promised=(1, promised))
    check_case(case, device, SMALL)


@pytest.mark.parametrize("head_dim", [*range(8, 257, 8), 512])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_head_dim_of_shared_keys(head_dim: int, dtype: str, device: str) -> None:
    """Units of several queries: tiles and matrix units where there are enough pairs."""
    q, kv = Side("thd", (1, 2, 1), gaps=(1, 0, 3)), Side("thd", (2, 16, 7), gaps=(0, 1, 2))
    case = Case(q=q, kv=kv, heads_q=8, heads_kv=2, dtype=dtype, d_qk=head_dim, d_v=head_dim, mask="padding_causal",
                promised=(2, 16))  # fmt: skip
    check_case(case, device, SMALL)


@pytest.mark.parametrize("promised", [(1, 4), (4, 16), (16, 16), (17, 17), (32, 32), (0, 0)])
@pytest.mark.parametrize("heads", [(3, 3), (6, 2), (32, 1)])
@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_tiles_take_every_length(promised: tuple[int, int], heads: tuple[int, int], head_dim: int, device: str) -> None:
    """Up to a tile's rows, beyond, and beyond the promise, with queries of one token, one head, and neither."""
    q, kv = Side("thd", (1, 5, 16, 17, 33, 0, 40, 2)), Side("thd", (16, 17, 4, 33, 32, 9, 0, 1))
    case = Case(q=q, kv=kv, heads_q=heads[0], heads_kv=heads[1], mask="padding_causal_bottom_right", dtype="bfloat16",
                d_qk=head_dim, d_v=head_dim - 24, promised=promised)  # fmt: skip
    check_case(case, device, SMALL)


@pytest.mark.parametrize("queries", [1, 16, 32])
def test_values_that_bf16_cannot_hold(queries: int, device: str) -> None:
    """fp16 computed as fp16: 1 + 1/1024 beside 1, whose difference alone decides the scores."""
    q, kv = Side("thd", (queries,)), Side("thd", (2,))
    case = Case(q=q, kv=kv, dtype="float16", d_qk=8, d_v=8, mask="padding", scale=512.0, promised=(queries, 2))
    problem = make_problem(case, device)
    problem.inputs["q"].fill_(1.0)
    problem.inputs["k"].fill_(1.0)[1].fill_(1 + 1 / 1024)
    problem.inputs["v"].fill_(0.0)[1].fill_(1.0)
    expected = torch.sigmoid(torch.tensor(512 * 8 / 1024, dtype=torch.float64))
    assert max_error(run_forward(problem, SMALL)["o"].cpu(), expected.expand(queries, 2, 8)) < 1e-3


# ---- thousands of segments ---------------------------------------------------------------------------------------


def packed_problem(side_q: Side, side_kv: Side, heads: int, head_dim: int, dtype: str, device: str) -> Problem:
    """Tokens of packed segments without a Python loop over them: NaN where there is no token."""
    case = Case(q=side_q, kv=side_kv, heads_q=heads, heads_kv=heads, d_qk=head_dim, d_v=head_dim, dtype=dtype,
                mask="padding", scale=0.2, promised=(max(side_q.lens), max(side_kv.lens)))  # fmt: skip
    generator = torch.Generator().manual_seed(len(side_q.lens))
    problem = Problem(case, torch.device(device))
    tokens = {}
    for name, side in (("q", side_q), ("k", side_kv), ("v", side_kv), ("d_o", side_q)):
        starts = torch.tensor([span.start for span in side.spans()])
        lengths = torch.tensor([span.length for span in side.spans()])
        rows = torch.repeat_interleave(starts - (lengths.cumsum(0) - lengths), lengths) + torch.arange(lengths.sum())
        tokens[name] = torch.full((side.tokens, heads, head_dim), torch.nan)
        tokens[name][rows] = torch.randn(len(rows), heads, head_dim, generator=generator)
        tokens[name] = tokens[name].to(problem.dtype).to(device)
    problem.d_o = tokens.pop("d_o")
    for name, side in (("q", side_q), ("kv", side_kv)):
        for suffix, offsets in (("", side.offsets()), ("_padded", side.padded_offsets())):
            tensor = None if offsets is None else torch.tensor(offsets, dtype=torch.int32, device=device)
            tokens[f"cu_seqlens_{name}{suffix}"] = tensor
    problem.inputs = tokens
    return problem


def check_packed(problem: Problem) -> None:
    case, inputs = problem.case, problem.inputs
    outputs = run_forward(problem, SMALL)
    results = outputs | run_backward(problem, outputs, SMALL)
    truth = cross_attention_oracle(inputs["q"], inputs["k"], inputs["v"], problem.d_o, case.q.spans(), case.kv.spans(),
                                   case.attn_scale)  # fmt: skip
    for name, expected in truth.items():
        assert magnitude(expected) > 0.1, f"{name}: nothing is tested"
        error = max_error(results[name], expected)
        assert error <= FLOORS[problem.dtype] * magnitude(expected), f"{name}: {error}, seed {len(case.q.lens)}"


@pytest.mark.parametrize(
    ("batch", "seqlen_q", "seqlen_kv", "segments"), [(2048, 2, 4, 2), (2, 4096, 8192, 4096), (4000, 1, 16, 1)]
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_packings(batch: int, seqlen_q: int, seqlen_kv: int, segments: int, dtype: str, device: str) -> None:
    """`segments` to a row of the batch, q one token each, keys of random lengths with room left in the row."""
    rng = random.Random(segments)
    lens, gaps = [], []
    for _ in range(batch):
        row = [rng.randint(1, 2 * seqlen_kv // segments - 1) for _ in range(segments)]
        while sum(row) > seqlen_kv:
            row[rng.randrange(segments)] = 1
        lens += row
        gaps += [0] * (segments - 1) + [seqlen_kv - sum(row)]
    q = Side("thd", (1,) * (batch * segments), gaps=tuple([0] * (segments - 1) + [seqlen_q - segments]) * batch)
    check_packed(packed_problem(q, Side("thd", tuple(lens), gaps=tuple(gaps)), 2, 16, dtype, device))


def test_a_million_segments(device: str) -> None:
    segments = 1_000_000
    kv = Side("thd", tuple(1 + i % 2 for i in range(segments)), tail=7)
    check_packed(packed_problem(Side("thd", (1,) * segments), kv, 1, 8, "bfloat16", device))


# ---- edges -------------------------------------------------------------------------------------------------------

HOSTILE = {
    "decreasing": (0, 9, 3, 20),
    "falling": (20, 12, 5, 0),
    "negative": (-7, 4, 11, 20),
    "beyond_the_buffer": (0, 5, 5000, 2**31 - 1),
    "all_beyond": (500, 600, 700, 800),
    "extreme": (-(2**31), 2**31 - 1, -(2**31), 2**31 - 1),
}


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("fmt", ["thd", "bshd"])
@pytest.mark.parametrize("promised", [(1, 4), (32, 32)])
def test_hostile_offsets(content: str, fmt: str, promised: tuple[int, int], device: str) -> None:
    honest = Side(fmt, (4, 10, 6))
    hostile = replace(honest, cu_seqlens=HOSTILE[content])
    for q, kv in ((hostile, hostile), (hostile, honest), (honest, hostile)):
        check_case(Case(q=q, kv=kv, mask="padding_causal", promised=promised), device, SMALL)


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_hostile_offsets_mean_the_same_to_every_backend(seed: int, device: str) -> None:
    """Spans of many sequences are placed by many blocks, which must agree with the one that plans tiles."""
    rng = random.Random(seed)
    side = Side("thd", (2,) * 5000)
    jumps = [rng.choice((0, 1, 2, 3, 3, 3, -7, 40)) for _ in range(5001)]
    hostile = replace(side, cu_seqlens=tuple(itertools.accumulate(jumps)))
    starts = tuple(i * 2 + rng.choice((0, 0, 0, 5, -9, 4000)) for i in range(5001))
    for kv in (hostile, replace(side, cu_seqlens_padded=starts)):
        problem = packed_problem(side, side, 2, 16, "float32", device)
        problem.case = replace(problem.case, kv=kv)
        for suffix, offsets in (("", kv.offsets()), ("_padded", kv.padded_offsets())):
            tensor = None if offsets is None else torch.tensor(offsets, dtype=torch.int32, device=device)
            problem.inputs[f"cu_seqlens_kv{suffix}"] = tensor
        runs = {backend: run_forward(problem, backend) for backend in (SMALL, "unfused")}
        for backend, outputs in runs.items():
            outputs |= run_backward(problem, outputs, backend)
        for name, expected in runs["unfused"].items():
            assert max_error(runs[SMALL][name], expected) <= 1e-4, f"{name}, seed {seed}"


@pytest.mark.parametrize("starts", [(0, 5, 9, 20), (12, 7, 0, 20), (-5, 18, 19, 20), (0, 2**31 - 1, 5, 5)])
def test_hostile_starts_overlap(starts: tuple[int, ...], device: str) -> None:
    side = replace(Side("thd", (4, 10, 6)), cu_seqlens_padded=starts)
    check_case(Case(q=side, kv=side, mask="padding", promised=(16, 16)), device, SMALL)


@pytest.mark.parametrize("fmt", ["thd", "bshd", "sbhd"])
def test_empty_sides(fmt: str, device: str) -> None:
    some, none = Side(fmt, (3, 1, 7), extra=2, tail=5), Side(fmt, (0, 0, 0), extra=4, tail=4)
    for q, kv in ((some, none), (none, some), (none, none)):
        check_case(Case(q=q, kv=kv, mask="padding", promised=(8, 8)), device, SMALL)


@pytest.mark.parametrize("heads", [(3, 3), (4, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_long_stretches_of_padding(heads: tuple[int, int], dtype: str, device: str) -> None:
    """Before, between and after segments, far more rows than a segment's own unit zeroes."""
    q = Side("thd", (1, 3, 0, 1), gaps=(31, 32, 33, 1500), lead=1100, tail=2100)
    kv = Side("thd", (5, 0, 16, 2), gaps=(2000, 1, 64, 0), lead=33, tail=1024)
    dense_q, dense_kv = Side("bshd", (1, 0, 2), extra=1200), Side("sbhd", (9, 2, 0), extra=70)
    for sides in ((q, kv), (dense_q, dense_kv)):
        case = Case(q=sides[0], kv=sides[1], heads_q=heads[0], heads_kv=heads[1], d_qk=40, d_v=24, dtype=dtype,
                    mask="padding", promised=(3, 16))  # fmt: skip
        check_case(case, device, SMALL)


def test_infinite_padding_is_as_harmless_as_nan(device: str) -> None:
    side = Side("thd", (3, 9, 1), gaps=(2, 0, 5), lead=3, tail=40)
    problem = make_problem(Case(q=side, kv=side, mask="padding", dtype="float16", promised=(16, 16)), device)
    for name in ("q", "k", "v"):
        problem.inputs[name].nan_to_num_(nan=torch.inf)
    problem.d_o.nan_to_num_(nan=-torch.inf)
    outputs = run_forward(problem, SMALL)
    results = outputs | run_backward(problem, outputs, SMALL)
    assert all(bool(result.isfinite().all()) for name, result in results.items() if name != "lse")


def test_scores_beyond_the_range_of_exp(device: str) -> None:
    problem = make_problem(Case(q=Side(lens=(1, 1)), kv=Side(lens=(9, 9)), scale=1.0, promised=(1, 9)), device)
    problem.inputs["q"].mul_(300)
    outputs = run_forward(problem, SMALL)
    results = outputs | run_backward(problem, outputs, SMALL)
    assert all(bool(tensor.isfinite().all()) for tensor in results.values())


@pytest.mark.parametrize("seed", range(3000, 3010))
def test_two_runs_are_bitwise_equal(seed: int, device: str) -> None:
    problem = make_problem(random_small_case(seed), device)
    runs = []
    for _ in range(2):
        outputs = run_forward(problem, SMALL)
        runs.append(outputs | run_backward(problem, outputs, SMALL))
    for name, first in runs[0].items():
        assert torch.equal(first, runs[1][name]), f"{name}, seed {seed}"


# ---- the choice --------------------------------------------------------------------------------------------------

PROMISED = Case(q=Side("thd", (1, 1)), kv=Side("thd", (9, 3)), mask="padding", promised=(1, 16))


def test_a_promise_chooses_it() -> None:
    assert make_config(make_problem(PROMISED)).backend() == SMALL
    assert make_config(make_problem(replace(PROMISED, promised=(0, 0)))).backend() == "fused_varlen"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bias": "alibi"}, "bias_type is alibi"),
        ({"dropout": 0.1}, "dropout is 0.1"),
        ({"softcap": 3.0}, "softcap is 3"),
        ({"softmax": "off-by-one"}, "softmax_type is off-by-one"),
        ({"promised": (1, 64)}, "max_segment_seqlen_kv is 64"),
        ({"promised": (1, 0)}, "neither max_segment_seqlen_kv nor max_seqlen_kv"),
        ({"dtype": "float64"}, "dtype is fp64"),
        ({"d_v": 264}, "head_dim_v is 264"),
    ],
)
def test_what_it_does_not_take_goes_on_with_the_reason(changes: dict, reason: str, device: str) -> None:
    case = replace(PROMISED, **changes)
    problem = make_problem(case, device)
    config = make_config(problem)
    assert config.backend() != SMALL
    line = next(line for line in config.explain().splitlines() if line.startswith(SMALL))
    assert "refused" in line and reason in line
    config.set("strict", 1)
    with pytest.raises(capi.NVTEError, match="strict is 1"):
        config.backend()
    check_case(case, device)


def test_no_delta_and_no_accumulator_in_its_workspace() -> None:
    problem = make_problem(replace(PROMISED, q=Side(lens=(1, 1)), kv=Side(lens=(9, 9))))
    config = make_config(problem, backend=SMALL)
    assert config.workspace_bytes(capi.FORWARD) == config.workspace_bytes(capi.BACKWARD) == 0
