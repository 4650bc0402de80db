"""Scores of two versions, compared across a tolerance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.score_shift import across, expected_shifts

TWENTIETHS = tuple(round(0.05 * step, 2) for step in range(1, 21))


def test_every_end_has_the_first_one_that_is_higher_by_the_tolerance():
    found = across(TWENTIETHS, 0.1)
    assert found[0.05] == 0.15
    assert found[0.9] == 1.0
    assert 0.95 not in found
    assert across([1.0, 0.0, 10.0], 0.1) == {0.0: 1.0, 1.0: 10.0}
    assert across([], 0.1) == {}


def test_rows_that_cross_an_end_within_the_tolerance_are_no_shift():
    assert set(expected_shifts([0.34] * 9, [0.36] * 9, TWENTIETHS, 0.1).values()) == {0.0}
    assert set(expected_shifts([0.36] * 9, [0.34] * 9, TWENTIETHS, 0.1).values()) == {0.0}


@pytest.mark.parametrize("sign", [1, -1])
def test_rows_that_move_farther_are_one(sign: int):
    stable = [0.42, 0.42, 0.42, 0.42]
    new = [0.42, 0.42, 0.42, 0.42 - sign * 0.3]
    shifts = expected_shifts(new, stable, TWENTIETHS, 0.1)
    assert shifts[0.2 if sign == 1 else 0.5] == sign * 0.25
    assert {shift * sign >= 0 for shift in shifts.values()} == {True}


scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(scores, scores)
def test_exchanged_versions_shift_the_other_way(new: list[float], stable: list[float]):
    there = expected_shifts(new, stable, TWENTIETHS, 0.0)
    back = expected_shifts(stable, new, TWENTIETHS, 0.0)
    assert there == {end: pytest.approx(-shift) for end, shift in back.items()}
