"""The oracle against torch's own attention and against attention written out element by element."""

from __future__ import annotations

import math

import pytest
import torch

from portattn.testing.compare import assert_close, max_error
from portattn.testing.dropout import dropout_factor, philox
from portattn.testing.random_config import Case, random_case
from portattn.testing.reference import Rules, Span, attention, spans_of, visible_keys


def random_tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def padded(tensor: torch.Tensor, spans: list[Span], index: int) -> torch.Tensor:
    span = spans[index]
    return tensor[span.start : span.start + span.length].transpose(0, 1)[None]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("group", [1, 3])
def test_oracle_agrees_with_torch_sdpa(causal: bool, group: int) -> None:
    spans = [Span(2, 17), Span(19, 30), Span(52, 1)]
    q, k, v = (
        random_tokens(60, 2 * group, 16, seed=1),
        random_tokens(60, 2, 16, seed=2),
        random_tokens(60, 2, 8, seed=3),
    )
    o, lse = attention(q, k, v, spans, spans, Rules(scale=0.3, causal=causal))
    d_o = torch.randn_like(o)
    expected = torch.zeros_like(o)
    for i, span in enumerate(spans):
        one = torch.nn.functional.scaled_dot_product_attention(
            padded(q, spans, i), padded(k, spans, i), padded(v, spans, i), is_causal=causal, scale=0.3, enable_gqa=True
        )
        expected[span.start : span.start + span.length] = one[0].transpose(0, 1)
    got = (o, *torch.autograd.grad(o, (q, k, v), d_o))
    want = (expected, *torch.autograd.grad(expected, (q, k, v), d_o))
    for a, b in zip(got, want, strict=True):
        assert max_error(a, b) < 1e-12
    assert torch.equal(lse[:2], torch.full_like(lse[:2], -torch.inf))


def element_by_element(q, k, v, rules: Rules, bias, slopes, sink) -> torch.Tensor:
    """o of one sequence by the definition, one number at a time."""
    (len_q, heads, _), len_kv = q.shape, k.shape[0]
    offset = len_kv - len_q if rules.bottom_right else 0
    o = torch.zeros(len_q, heads, v.shape[2], dtype=q.dtype)
    for h in range(heads):
        for i in range(len_q):
            d, terms, top = i + offset, [], [math.exp(float(sink[h]))]
            for j in range(len_kv):
                left, right = rules.window
                hidden = (rules.causal and j > d) or (left >= 0 and j < d - left) or (right >= 0 and j > d + right)
                if hidden or (
                    rules.chunk_size and math.floor(j / rules.chunk_size) != math.floor(d / rules.chunk_size)
                ):
                    continue
                score = rules.scale * float(q[i, h] @ k[j, h])
                score += float(bias[0, h, i, j]) if rules.bias_type == "post_scale_bias" else 0.0
                score -= float(slopes[0, h]) * abs(j - i - offset) if rules.bias_type == "alibi" else 0.0
                score = rules.softcap * math.tanh(score / rules.softcap)
                top.append(math.exp(score))
                terms.append((j, math.exp(score)))
            for j, weight in terms:
                o[i, h] += weight / sum(top) * v[j, h]
    return o


@pytest.mark.parametrize("bottom_right", [False, True])
@pytest.mark.parametrize("bias_type", ["post_scale_bias", "alibi"])
@pytest.mark.parametrize("lens", [(5, 9), (9, 5)])
def test_oracle_agrees_with_the_definition(bottom_right: bool, bias_type: str, lens: tuple[int, int]) -> None:
    rules = Rules(
        scale=0.7, causal=bottom_right, bottom_right=bottom_right, window=(4, 2), chunk_size=3, softcap=2.0,
        bias_type=bias_type,
    )  # fmt: skip
    with torch.no_grad():
        q, k, v = (random_tokens(n, 2, 4, seed=n + i) for i, n in enumerate((lens[0], lens[1], lens[1])))
        bias, slopes, sink = random_tokens(1, 2, 9, 9), random_tokens(1, 2), random_tokens(2)
        o, _ = attention(q, k, v, [Span(0, lens[0])], [Span(0, lens[1])], rules, bias, slopes, sink)
        assert max_error(o, element_by_element(q, k, v, rules, bias, slopes, sink)) < 1e-12


def test_oracle_gives_zero_and_no_gradient_to_rows_that_see_nothing() -> None:
    q, k, v = random_tokens(6, 1, 4, seed=1), random_tokens(3, 1, 4, seed=2), random_tokens(3, 1, 4, seed=3)
    o, lse = attention(q, k, v, [Span(0, 6)], [Span(0, 3)], Rules(scale=1.0, causal=True, bottom_right=True))
    assert (o[:3] == 0).all() and (lse[:3] == -torch.inf).all() and lse[3:].isfinite().all()
    dq, dk, dv = torch.autograd.grad(o, (q, k, v), torch.ones_like(o))
    assert (dq[:3] == 0).all() and all(g.isfinite().all() for g in (dq, dk, dv))


def test_oracle_lse_of_an_unseen_row_is_the_sink() -> None:
    q, k = random_tokens(2, 1, 4), random_tokens(0, 1, 4)
    sink = torch.tensor([0.7], dtype=torch.float64)
    o, lse = attention(q, k, k, [Span(0, 2)], [Span(0, 0)], Rules(scale=1.0), sink=sink)
    assert (o == 0).all() and max_error(lse, torch.full((2, 1), 0.7)) < 1e-7


def test_visible_keys_of_a_chunked_bottom_right_diagonal() -> None:
    seen = visible_keys(Rules(scale=1.0, causal=True, bottom_right=True, chunk_size=4), 3, 6)
    assert seen.int().tolist() == [[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 1]]


def test_spans_of_hostile_offsets_stay_apart_and_inside() -> None:
    offsets = [3, 8, 5, 40, -2]
    spans = spans_of(offsets, offsets, 4, 20)
    assert spans == [Span(3, 5), Span(8, 0), Span(8, 12), Span(20, 0)]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: tuple, key: tuple, expected: tuple) -> None:
    """Known answers of Philox4x32-10 from its authors' Random123 distribution."""
    np = pytest.importorskip("numpy")
    words = philox([np.array([c], dtype=np.uint64) for c in counter], key)
    assert tuple(int(w[0]) for w in words) == expected


def test_dropout_keeps_the_asked_share_and_the_expectation() -> None:
    factor = dropout_factor(0.3, seed=5, offset=9, stream=2, len_q=300, len_kv=500)
    assert abs(float((factor == 0).double().mean()) - 0.3) < 0.005
    assert abs(float(factor.mean()) - 1.0) < 0.01
    assert not torch.equal(factor, dropout_factor(0.3, seed=5, offset=9, stream=3, len_q=300, len_kv=500))


def test_compare_can_fail() -> None:
    truth = torch.ones(4, dtype=torch.float64)
    assert_close("same", truth + 1e-6, truth, truth, torch.float32)
    for wrong in (truth + 3e-5, truth * torch.nan, truth * torch.inf):
        with pytest.raises(AssertionError):
            assert_close("wrong", wrong, truth, truth, torch.float32)


def test_compare_treats_equal_infinities_as_equal() -> None:
    lse = torch.tensor([-torch.inf, 1.0], dtype=torch.float64)
    assert_close("lse", lse.float(), lse, lse, torch.float32)


@pytest.mark.parametrize("seed", range(50))
def test_a_printed_case_reads_back(seed: int) -> None:
    case = random_case(seed, unfused=seed % 2 == 1)
    assert Case.parse(repr(case)) == case
