"""How a rollout decides at one look, and what it is after what was decided."""

from dataclasses import replace
from typing import Any

import pytest

from headrace.domain import rollout as rollouts
from headrace.domain.evidence import Counts, Expected
from headrace.domain.rollout import Kind, RolloutState, Seen, next_action, split_of
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.sequences import Tally
from headrace.domain.split import Split

SHADOW = RolloutStep(shadow_pct=100, min_requests=50, hold_s=2.0, timeout_s=60.0)
CANARY = RolloutStep(weight_pct=10, min_requests=50, hold_s=2.0, timeout_s=60.0)
POLICY = RolloutPolicy((SHADOW, CANARY), approval_timeout_s=3600.0)
NEW, STABLE = Counts(40, 4, started_at=9.0), Counts(9000, 90, started_at=5.0)
BEGAN = rollouts.begin(2, POLICY, Expected(0.05), 1000.0, (NEW, STABLE))
RUNNING = replace(BEGAN, step=1, window=1)

STATES = {
    "running": RUNNING,
    "waiting": replace(RUNNING, phase="waiting"),
    "paused": rollouts.paused(RUNNING, 1000.0, "ada"),
    "without counters": replace(RUNNING, new=None, stable=None),
}


def after(before: Counts, answers: int = 0, errors: int = 0) -> Counts:
    return replace(before, answers=before.answers + answers, errors=before.errors + errors)


def seen(**changes: Any) -> Seen:
    """A look at a good version after enough answers and enough time."""
    usual = {"new": after(NEW, 100), "stable": after(STABLE, 900), "ready": True, "elapsed_s": 3.0}
    return Seen(**usual | changes)


RESTARTED = {"new": Counts(500, 0, started_at=10.0), "stable": Counts(9999, 90, started_at=6.0)}
LOOKS: dict[str, dict[str, Any]] = {
    "not ready": {"ready": False},
    "readiness unknown": {"ready": None},
    "no counters of the new version": {"new": None},
    "no counters of the stable version": {"stable": None},
    "nothing": {"new": None, "stable": None, "ready": None},
    "not ready, and no counters": {"new": None, "stable": None, "ready": False},
    "new version restarted": {"new": RESTARTED["new"]},
    "stable version restarted": {"stable": RESTARTED["stable"]},
    "both restarted": RESTARTED,
    "counters of the new version fell": {"new": replace(NEW, answers=39)},
    "failed": {"new": after(NEW, 100, 60)},
    "failed at once": {"new": after(NEW, 20, 20), "elapsed_s": 0.1},
    "no answers": {"new": NEW, "stable": STABLE},
    "too few answers of the new version": {"new": after(NEW, 49)},
    "too few answers of the stable version": {"stable": after(STABLE, 49)},
    "inconclusive": {"new": after(NEW, 100, 3)},
    "good": {},
}
BACK = ("take back", "take back")
HELD = ("hold", "take back")
RENEWED = ("renew", "take back")
GONE = ("not ready", "not ready, and no counters")
LACKING = ("readiness unknown", "no counters of the new version", "no counters of the stable version", "nothing")
AGAINST = ("new version restarted", "counters of the new version fell", "failed", "failed at once")
ANEW = ("stable version restarted", "both restarted")
# What is done in time, and at the deadline.
EXPECTED: dict[str, dict[str, tuple[Kind, Kind]]] = {
    "running": dict.fromkeys(LOOKS, HELD)
    | dict.fromkeys((*GONE, *AGAINST), BACK)
    | dict.fromkeys(ANEW, RENEWED)
    | {"good": ("advance", "advance")},
    # Whatever counters there are begin the window, and the look after this one decides.
    "without counters": dict.fromkeys(LOOKS, ("renew", "renew"))
    | dict.fromkeys(GONE, BACK)
    | dict.fromkeys(LACKING, HELD),
}
EXPECTED["waiting"] = EXPECTED["paused"] = EXPECTED["running"] | {"good": HELD}


@pytest.mark.parametrize("late", [False, True], ids=["in time", "at the deadline"])
@pytest.mark.parametrize("look", [*LOOKS])
@pytest.mark.parametrize("state", [*STATES])
def test_what_is_done_in_every_state_on_every_look(state: str, look: str, late: bool):
    found = seen(**LOOKS[look])
    if late:
        found = replace(found, elapsed_s=rollouts.deadline(STATES[state]))
    action = next_action(STATES[state], found)
    assert action.kind == EXPECTED[state][look][late]
    assert action.reason


@pytest.mark.parametrize("phase", ["finished", "taken back", "superseded"])
def test_there_is_nothing_to_decide_once_it_has_ended(phase: Any):
    with pytest.raises(ValueError, match=f"v2 is {phase}"):
        next_action(rollouts.ended(RUNNING, phase, "told so"), seen())


@pytest.mark.parametrize(
    ("look", "words"),
    [
        ("not ready", ["v2 is no longer ready"]),
        ("nothing", ["no counters of v2", "no counters of the stable version", "whether v2 is ready"]),
        ("no counters of the new version", ["no counters of v2"]),
        ("new version restarted", ["v2 was started anew"]),
        ("stable version restarted", ["stable version was started anew"]),
        ("failed", ["errors: 60.00 % beside 0.00 %"]),
        ("too few answers of the new version", ["49 answers beside 900", "50 of each"]),
        ("inconclusive", ["errors: 3.00 %"]),
        ("good", ["100 answers beside 900 in 3.0 s"]),
    ],
)
def test_the_reason_says_what_was_seen(look: str, words: list[str]):
    reason = next_action(RUNNING, seen(**LOOKS[look])).reason
    assert all(word in reason for word in words), reason


def test_at_the_deadline_the_reason_says_what_was_missing_and_how_long():
    assert next_action(RUNNING, seen(new=None, elapsed_s=60.0)).reason.startswith("no counters of v2 (after 60 s")


def test_what_came_before_the_window_is_no_evidence():
    action = next_action(RUNNING, seen())
    assert action.requests == (100, 900)
    assert {(one.new, one.stable) for one in action.findings} == {(0.0, 0.0)}


def test_a_step_is_held_for_its_time():
    assert next_action(RUNNING, seen(elapsed_s=1.9)).kind == "hold"
    assert next_action(RUNNING, seen(elapsed_s=2.0)).kind == "advance"


def test_a_shadow_is_judged_on_its_disagreement():
    state = replace(BEGAN, expected=Expected(0.05, disagreement=0.0))
    kinds = [next_action(state, seen(pairs=Tally(hits, 100))).kind for hits in (5, 15, 60)]
    assert kinds == ["advance", "hold", "take back"]
    assert next_action(state, seen(pairs=Tally(0, 0))).kind == "hold"


def test_time_at_a_step_with_people_in_it_is_longer():
    assert [rollouts.deadline(STATES[one]) for one in ("running", "waiting", "paused")] == [60.0, 3600.0, 3600.0]


def test_it_begins_with_the_first_step_and_the_counters_that_are_there():
    assert (BEGAN.step, BEGAN.window, BEGAN.phase) == (0, 0, "running")
    assert (BEGAN.new, BEGAN.stable) == (NEW, STABLE)
    assert BEGAN.key != replace(BEGAN, began_at=1000.001).key != replace(BEGAN, version=3, began_at=1000.001).key


def test_the_next_step_has_a_window_of_its_own_and_its_time_begins():
    now = (after(NEW, 100), after(STABLE, 900))
    state = rollouts.advanced(BEGAN, 1010.0, now, "nothing against it")
    assert (state.step, state.step_at, state.window) == (1, 1010.0, 1)
    assert (state.new, state.stable) == now


def test_a_new_window_does_not_lengthen_the_step():
    state = rollouts.renewed(RUNNING, (NEW, RESTARTED["stable"]), "the stable version was started anew")
    assert (state.step, state.step_at, state.window) == (RUNNING.step, RUNNING.step_at, RUNNING.window + 1)
    assert state.stable == RESTARTED["stable"]


def test_a_window_without_counters_costs_nothing_of_the_error_budget():
    state = rollouts.renewed(STATES["without counters"], (NEW, STABLE), "there are counters to begin with")
    assert state.window == RUNNING.window


def test_all_windows_together_spend_no_more_than_the_error_budget():
    spent = [rollouts.window_error(replace(RUNNING, window=window)) for window in range(1000)]
    assert spent[0] == pytest.approx(POLICY.error_budget / 2)
    assert POLICY.error_budget * 0.99 < sum(spent) < POLICY.error_budget


def test_after_the_last_step_it_is_finished():
    state = rollouts.advanced(RUNNING, 1010.0, (NEW, STABLE), "nothing against it")
    assert state.phase == "finished"
    assert split_of(state, Split(1, canary=2, canary_pct=10)) == Split(2, previous=1)


def test_after_the_last_step_it_waits_where_somebody_has_to_approve():
    careful = replace(RUNNING, policy=replace(POLICY, approval=True))
    state = rollouts.advanced(careful, 1010.0, (NEW, STABLE), "nothing against it")
    assert (state.phase, state.step, state.step_at) == ("waiting", 1, 1010.0)
    assert (state.window, state.new) == (careful.window, careful.new), "the evidence counts on"
    assert split_of(state, Split(1)).weights == {1: 90, 2: 10}
    assert next_action(state, seen()).kind == "hold"


@pytest.mark.parametrize("state", [*STATES])
def test_somebodys_word_finishes_it_and_is_kept(state: str):
    found = rollouts.approved(STATES[state], "ada")
    assert (found.phase, found.approved_by, found.paused_by) == ("finished", "ada", None)
    assert "ada" in found.reason
    assert split_of(found, Split(1, canary=2, canary_pct=10)) == Split(2, previous=1)


def test_a_pause_holds_the_weight_and_its_end_begins_the_steps_time_anew():
    state = rollouts.paused(RUNNING, 1020.0, "ada")
    assert split_of(state, Split(1)) == split_of(RUNNING, Split(1))
    assert state.step_at == 1020.0
    resumed = rollouts.resumed(state, 1500.0, "bob")
    assert (resumed.step_at, resumed.paused_by, resumed.step) == (1500.0, None, RUNNING.step)
    assert next_action(resumed, seen()).kind == "advance"


def test_the_split_goes_with_the_state():
    before = Split(1, previous=7)
    assert split_of(BEGAN, before) == Split(1, previous=7, shadow=2, shadow_pct=100)
    assert split_of(RUNNING, before) == Split(1, previous=7, canary=2, canary_pct=10)
    assert split_of(RUNNING, split_of(BEGAN, before)) == split_of(RUNNING, before)
    sticky = replace(RUNNING, policy=replace(POLICY, sticky=True))
    assert split_of(sticky, before).sticky


@pytest.mark.parametrize("phase", ["taken back", "superseded"])
@pytest.mark.parametrize("state", [BEGAN, RUNNING])
def test_once_it_is_taken_back_nothing_of_it_is_left(state: RolloutState, phase: Any):
    over = rollouts.ended(state, phase, "it failed")
    assert split_of(over, split_of(state, Split(1, previous=7))) == Split(1, previous=7)
