"""How unevenly tokens fall on experts' ranks: by hand, and by going through every placement."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from planner.common.errors import PlannerError
from planner.operators.expert_load import (
    copied_shares,
    dropped_share,
    expert_copies,
    expert_load,
    given_shares,
    mixed_shares,
    placed_load,
    read_histogram,
    rebalanced_load,
    sorted_load,
    zipf_load,
    zipf_shares,
)

SHARES = np.array([0.4, 0.05, 0.3, 0.05, 0.1, 0.1])


def test_the_fullest_rank_over_the_mean() -> None:
    """Neighbours share a rank: 0.45, 0.35, 0.2 of three ranks; halves of 0.75 and 0.25."""
    assert expert_load(SHARES, 3) == pytest.approx(0.45 * 3)
    assert expert_load(SHARES, 2) == pytest.approx(0.75 * 2)
    assert expert_load(SHARES, 6) == pytest.approx(0.4 * 6)
    assert (expert_load(SHARES, 1), expert_load(np.full(8, 1 / 8), 4)) == (1.0, 1.0)


def test_the_worst_and_a_balanced_placement() -> None:
    """Sorted: 0.7 of three ranks. The fullest first onto the emptiest: 0.4 + 0.05, 0.3 + 0.05, 0.1 + 0.1; of two ranks
    with three places each 0.4 + 0.1 + 0.05, since the other, 0.3 + 0.1 + 0.05, is full."""
    assert sorted_load(SHARES, 3) == pytest.approx(0.7 * 3)
    assert rebalanced_load(SHARES, 3) == pytest.approx(0.45 * 3)
    assert rebalanced_load(SHARES, 2) == pytest.approx(0.55 * 2)
    # a rank takes no more than its places, though it is the emptiest: 0.6 + 0.05 beside 0.2 + 0.15
    assert rebalanced_load(np.array([0.6, 0.2, 0.15, 0.05]), 2) == pytest.approx(0.65 * 2)


def test_a_random_placement_is_the_mean_over_all_of_them() -> None:
    every = [expert_load(SHARES[list(order)], 3) for order in itertools.permutations(range(6))]
    assert placed_load(SHARES, 3) == pytest.approx(float(np.mean(every)), rel=0.03)
    assert placed_load(SHARES, 1) == 1.0
    assert placed_load(np.full(8, 1 / 8), 4) == 1.0


@pytest.mark.parametrize("placement", [expert_load, placed_load, rebalanced_load, sorted_load])
def test_ranks_that_do_not_divide_the_experts_are_refused(placement: object) -> None:
    with pytest.raises(PlannerError, match="does not divide 6 experts"):
        placement(SHARES, 4)  # type: ignore[operator]


def test_zipfs_law() -> None:
    assert zipf_shares(1.0, 4).tolist() == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25])
    assert zipf_shares(0.0, 4).tolist() == [0.25] * 4
    assert zipf_load(1.0, 4, 2, "given") == pytest.approx(18 / 25 * 2)
    assert zipf_load(1.0, 4, 2, "rebalanced") == pytest.approx(15 / 25 * 2)


def test_a_mixture_weighs_each_kind_of_data_by_its_part() -> None:
    """Rows are counts of any sum: (1/4, 3/4) and (1/2, 1/2), three parts to one."""
    assert mixed_shares([[1.0, 3.0], [5.0, 5.0]], [3.0, 1.0]).tolist() == pytest.approx([5 / 16, 11 / 16])
    assert given_shares([2, 6], 2).tolist() == [0.25, 0.75]


def test_what_overflows_a_capacity_is_dropped() -> None:
    """Room of 1.2 / 6 = 0.2 each: 0.2 and 0.1 too many."""
    assert dropped_share(SHARES, 1.2) == pytest.approx(0.3)
    assert dropped_share(SHARES, 2.5) == 0.0


def test_further_copies_go_where_a_copy_has_the_most_tokens() -> None:
    """deepseek-ai/EPLB, replicate_experts: of 0.5, 0.3, 0.2 the first is halved to 0.25, then the second to 0.15, then the first
    again; copies of one expert split its tokens."""
    shares = (0.5, 0.3, 0.2)
    assert [expert_copies(shares, n) for n in range(4)] == [(1, 1, 1), (2, 1, 1), (2, 2, 1), (3, 2, 1)]
    assert copied_shares(np.array(shares), 2).tolist() == pytest.approx([0.25, 0.25, 0.15, 0.15, 0.2])
    # Zipf's 12, 6, 4 and 3 of 25 and two further copies, both of the first, on three ranks: 8, 7 and 10
    assert zipf_load(1.0, 4, 3, "given", redundant=2) == pytest.approx(10 / 25 * 3)


def test_shares_are_counts_that_are_numbers() -> None:
    for wrong, named in (
        ([1.0, -1.0], r"x\[1\] = -1.0"),
        ([True, 1.0], r"x\[0\] = True"),
        ([0.0, 0.0], "x: all"),
        ([1.0], "has 1 entries"),
    ):
        with pytest.raises(PlannerError, match=named):
            given_shares(wrong, 2, "x")
    assert given_shares([0.0, 1.0], 2).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("name", "text"), [("a.json", "[1, 3]"), ("a.txt", "expert0 1\n\nexpert1 3\n"), ("a.csv", "0,1\n1,3\n")])
def test_a_histogram_is_read_from_a_list_or_the_last_number_of_each_line(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_histogram(path, 2).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(("name", "text"), [("a.json", "{}"), ("a.json", "["), ("a.txt", "expert0 many"), ("b.json", "")])
def test_what_is_no_histogram_is_refused(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(PlannerError, match=r"histogram|list"):
        read_histogram(path, 2)
