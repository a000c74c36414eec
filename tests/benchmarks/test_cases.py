"""Cases and their useful FLOPs."""

from __future__ import annotations

import dataclasses

import pytest
from routines.cases import Case, document_lengths, load_groups
from routines.implementations import FASTEST, LABELS


def make_case(seqlens: tuple[int, ...], mask: str = "full") -> Case:
    return Case("model", "shape", seqlens, True, num_heads_q=4, num_heads_kv=2, head_dim=8, mask=mask)


def test_flops_count_visible_pairs_of_query_heads_only() -> None:
    assert make_case((3, 5)).flops("forward") == 4 * (9 + 25) * 4 * 8
    assert make_case((3, 5), "causal").flops("forward") == 4 * (6 + 15) * 4 * 8
    assert make_case((3, 5)).flops("backward") == 2.5 * make_case((3, 5)).flops("forward")


def test_values_of_another_head_dim_take_part_in_fewer_products() -> None:
    """s = q k^T and its two gradients run over d, o = p v and its two over d_v."""
    case = dataclasses.replace(make_case((3, 5)), head_dim_v=4)
    assert case.flops("forward") == 2 * (9 + 25) * 4 * (8 + 4)
    assert case.flops("backward") == 2 * (9 + 25) * 4 * (3 * 8 + 2 * 4)


@pytest.mark.parametrize("longest", [1, 256, 8192])
def test_documents_fill_the_batch_exactly_and_stay_under_the_cut(longest: int) -> None:
    lengths = document_lengths(5000, mu=6.0, sigma=1.2, longest=longest)
    assert sum(lengths) == 5000 and min(lengths) >= 1 and max(lengths) <= longest
    assert lengths == document_lengths(5000, mu=6.0, sigma=1.2, longest=longest)


def test_every_group_is_complete() -> None:
    """Each peer has a label, each target a peer that runs, each packed case the tokens it says."""
    for group in load_groups():
        assert set(group.peers) <= set(LABELS), group.name
        assert group.case_names(), group.name
        if group.routine == "attention":
            assert group.target is not None and group.target.peer in (*group.peers, FASTEST), group.name
            names = group.case_names()
            assert len(names) == len(set(names)), group.name


def test_half_of_the_padded_cpu_batch_is_padding() -> None:
    (group,) = (group for group in load_groups() if group.name == "cpu_packed")
    for case in group.attention_cases():
        assert 2 * case.total_tokens == len(case.seqlens) * case.max_seqlen
