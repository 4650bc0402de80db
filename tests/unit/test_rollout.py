"""How a rollout decides, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.rollout import (
    Observation,
    RolloutPolicy,
    RolloutStep,
    Split,
    describe,
    finished,
    next_action,
    rolled_back,
)

STEP = RolloutStep(weight_pct=5, hold_s=2.0)
POLICY = RolloutPolicy(
    steps=(STEP, RolloutStep(100, 0)), probe_count=20, max_error_share=0.01, ready_timeout_s=60, step_timeout_s=30
)


def seen(answers: int = 20, errors: int = 0, elapsed_s: float = 3.0, alive: bool | None = True) -> Observation:
    return Observation(answers, errors, elapsed_s, alive)


def test_enough_good_answers_advance():
    assert next_action(POLICY, STEP, seen()).kind == "advance"


def test_a_step_is_held_for_its_time():
    assert next_action(POLICY, STEP, seen(elapsed_s=1.9)).kind == "hold"


@pytest.mark.parametrize("errors", [1, 20])
def test_errors_above_the_share_abort_at_once_with_the_numbers(errors: int):
    action = next_action(POLICY, STEP, seen(errors=errors, elapsed_s=0.1))
    assert action.kind == "abort"
    assert f"{errors} of 20" in action.reason


def test_errors_within_the_share_do_not_abort():
    assert next_action(POLICY, STEP, seen(answers=100, errors=1)).kind == "advance"


def test_a_version_that_is_not_ready_goes_back():
    assert next_action(POLICY, STEP, seen(alive=False)).kind == "abort"


def test_no_evidence_holds_and_aborts_at_the_deadline():
    assert next_action(POLICY, STEP, seen(answers=0, alive=None, elapsed_s=29)).kind == "hold"
    assert next_action(POLICY, STEP, seen(answers=0, alive=None, elapsed_s=30)).kind == "abort"


@given(
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.floats(0, 1e4),
    st.sampled_from([True, False, None]),
)
def test_it_never_advances_without_evidence_and_always_ends(answers, errors, elapsed_s, alive):
    action = next_action(POLICY, STEP, Observation(answers, min(errors, answers), elapsed_s, alive))
    if action.kind == "advance":
        assert answers >= POLICY.probe_count
        assert alive is True
        assert min(errors, answers) / answers <= POLICY.max_error_share
    if elapsed_s >= POLICY.step_timeout_s:
        assert action.kind != "hold"


@pytest.mark.parametrize(
    ("weights", "word"), [([5, 50], "end at 100"), ([50, 5, 100], "ascend"), ([], "ascend"), ([5, 5, 100], "ascend")]
)
def test_steps_have_to_ascend_to_100(weights, word):
    with pytest.raises(ValueError, match=word):
        RolloutPolicy(tuple(RolloutStep(w, 0) for w in weights), 20, 0.01, 60, 30)


def test_a_policy_without_evidence_is_refused():
    with pytest.raises(ValueError, match="needs evidence"):
        RolloutPolicy((RolloutStep(100, 0),), 0, 0.01, 60, 30)


def test_weights_add_up():
    assert Split(1, 2, 5, None).weights == {1: 95, 2: 5}
    assert Split(1).weights == {1: 100}


@pytest.mark.parametrize("bad", [(1, 1, 5), (1, None, 5), (1, 2, 0), (1, 2, 100)])
def test_a_split_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match="canary"):
        Split(*bad)


def test_a_finished_rollout_remembers_where_to_go_back():
    assert finished(Split(1, 2, 50, None), 2) == Split(2, previous=1)


def test_finishing_twice_keeps_the_way_back():
    assert finished(Split(2, previous=1), 2) == Split(2, previous=1)


def test_rollback_during_a_canary_only_takes_the_canary_away():
    assert rolled_back(Split(1, 2, 50, 7)) == Split(1, previous=7)


def test_rollback_goes_to_the_version_before_and_back_again():
    back = rolled_back(Split(2, previous=1))
    assert back == Split(1, previous=2)
    assert rolled_back(back) == Split(2, previous=1)


def test_rollback_to_a_named_version():
    assert rolled_back(Split(5, previous=4), 2) == Split(2, previous=5)


@pytest.mark.parametrize(("split", "to"), [(Split(1), None), (Split(2, previous=1), 2)])
def test_rollback_to_nowhere_is_none(split, to):
    assert rolled_back(split, to) is None


def test_weights_are_told_in_order():
    assert describe({3: 90, 2: 10}) == "v2 10 %, v3 90 %"
