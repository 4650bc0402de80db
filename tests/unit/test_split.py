"""Who answers a model's traffic, who is tried, and where a rollback goes."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain.split import Split, describe, finished, rolled_back, told_weights


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """All kinds of splits of versions 1 to 4."""
    stable, tried, previous = draw(st.permutations([1, 2, 3, 4]))[:3]
    base = Split(stable, previous=draw(st.sampled_from([None, previous])), sticky=draw(st.booleans()))
    kind = draw(st.sampled_from(["alone", "canary", "shadow"]))
    if kind == "canary":
        return base.trying(tried, canary_pct=draw(st.integers(1, 99)))
    return base.trying(tried, shadow_pct=draw(st.integers(1, 100))) if kind == "shadow" else base


@settings(deadline=None)
@given(splits())
def test_weights_add_up_and_whoever_has_any_has_to_run(split: Split):
    assert sum(split.weights.values()) == 100
    assert min(split.weights.values()) > 0
    assert set(split.weights) <= split.versions


def test_the_canary_takes_its_share_from_the_stable_version():
    assert Split(1, canary=2, canary_pct=5).weights == {1: 95, 2: 5}
    assert Split(1).weights == {1: 100}


def test_a_shadow_takes_nothing_from_the_stable_version():
    split = Split(1, shadow=2, shadow_pct=30)
    assert split.weights == {1: 100}
    assert split.tried == 2


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"canary": 1, "canary_pct": 5}, "makes no sense"),
        ({"canary_pct": 5}, "does not go with"),
        ({"canary": 2}, "does not go with"),
        ({"canary": 2, "canary_pct": 100}, "makes no sense"),
        ({"canary": 2, "canary_pct": -1}, "makes no sense"),
        ({"shadow": 1, "shadow_pct": 5}, "makes no sense"),
        ({"shadow": 2}, "does not go with"),
        ({"shadow_pct": 5}, "does not go with"),
        ({"shadow": 2, "shadow_pct": 101}, "makes no sense"),
        ({"canary": 2, "canary_pct": 5, "shadow": 2, "shadow_pct": 5}, "makes no sense"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(bad: Mapping[str, Any], word: str):
    with pytest.raises(ValueError, match=word):
        Split(1, **bad)


def test_whatever_has_traffic_or_copies_or_is_gone_back_to_has_to_run():
    assert Split(3, canary=4, canary_pct=5, previous=2).versions == {2, 3, 4}
    assert Split(3, shadow=4, shadow_pct=5).versions == {3, 4}
    assert Split(3).versions == {3}


@settings(deadline=None)
@given(splits())
def test_alone_only_the_tried_version_is_missing(split: Split):
    alone = split.alone()
    assert alone.tried is None
    assert alone.weights == {split.stable: 100}
    assert (alone.stable, alone.previous, alone.sticky) == (split.stable, split.previous, split.sticky)


@settings(deadline=None)
@given(splits(), st.booleans())
def test_one_version_is_tried_at_a_time(split: Split, shadow: bool):
    found = split.trying(9, shadow_pct=40) if shadow else split.trying(9, canary_pct=40)
    assert found.tried == 9
    assert (found.canary is None) == shadow
    assert (found.shadow is None) != shadow
    assert found.alone() == split.alone()
    assert split.trying(9) == split.alone()


def test_a_finished_rollout_remembers_where_to_go_back():
    assert finished(Split(1, canary=2, canary_pct=50), 2) == Split(2, previous=1)
    assert finished(Split(1, shadow=2, shadow_pct=50, previous=7), 2) == Split(2, previous=1)


@settings(deadline=None)
@given(splits())
def test_finishing_twice_keeps_the_way_back(split: Split):
    once = finished(split, split.tried or 9)
    assert finished(once, once.stable) == once


@settings(deadline=None)
@given(splits())
def test_clients_stay_where_they_are_after_a_rollout_and_a_rollback_too(split: Split):
    assert finished(split, 9).sticky == split.sticky
    back = rolled_back(split)
    assert back is None or back.sticky == split.sticky


@pytest.mark.parametrize("to", [None, 1])
@pytest.mark.parametrize(
    "split",
    [Split(1, canary=2, canary_pct=50, previous=7), Split(1, shadow=2, shadow_pct=50, previous=7)],
    ids=["canary", "shadow"],
)
def test_rollback_during_a_rollout_only_takes_away_what_is_tried(split: Split, to: int | None):
    assert rolled_back(split, to) == Split(1, previous=7)


def test_rollback_goes_to_the_version_before_and_back_again():
    back = rolled_back(Split(2, previous=1))
    assert back == Split(1, previous=2)
    assert rolled_back(back) == Split(2, previous=1)


def test_rollback_to_a_named_version():
    assert rolled_back(Split(5, previous=4), 2) == Split(2, previous=5)
    assert rolled_back(Split(5, canary=6, canary_pct=10, previous=4), 4) == Split(4, previous=5)


@pytest.mark.parametrize(("split", "to"), [(Split(1), None), (Split(2, previous=1), 2)])
def test_rollback_to_nowhere_is_none(split: Split, to: int | None):
    assert rolled_back(split, to) is None


def test_splits_are_told_in_order():
    assert told_weights({3: 90, 2: 10}) == "v2 10 %, v3 90 %"
    assert describe(Split(3, canary=2, canary_pct=10)) == "v2 10 %, v3 90 %"
    assert describe(Split(3, shadow=4, shadow_pct=40)) == "v3 100 %, v4 shadows 40 %"
