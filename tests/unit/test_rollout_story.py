"""What `headrace rollout explain` and a rollout's page tell."""

from dataclasses import replace

import pytest

from headrace.domain.findings import Finding, Outcome
from headrace.domain.rollout import Action, Look, paused
from headrace.domain.rollout_story import answered, chapters, headline, sentences
from tests.unit.made_up_rollouts import BEGAN, POLICY, erring_at, made

GOOD, BAD = made(), made(erring_at(10))


def finding(metric: str, outcome: Outcome, new: float | None, stable: float, low: float, high: float) -> Finding:
    return Finding(metric, outcome, new, stable, low, high, 0.01)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            finding("errors", "fail", 0.12, 0.001, 0.031, 0.2),
            "errors: 12.00 % beside 0.10 %; at least 3.10 points worse, and 1.00 is allowed",
        ),
        (
            finding("errors", "pass", 0.001, 0.001, -0.01, 0.008),
            "errors: 0.10 % beside 0.10 %; within the 1.00 points allowed, and that is proven",
        ),
        (
            finding("errors", "pass", 0.0, 0.0, -0.1, 0.093),
            "errors: 0.00 % beside 0.00 %; within the 1.00 points allowed, though up to 9.30 is not ruled out",
        ),
        (
            finding("errors", "inconclusive", 0.06, 0.0, 0.0, 0.2),
            "errors: 6.00 % beside 0.00 %; beyond the 1.00 points allowed, but that may still be chance",
        ),
        (finding("errors", "inconclusive", None, 0.0, 0.0, 1.0), "errors: nothing to compare yet"),
        (
            finding("scores up to 0.35", "fail", 0.6, 0.4, 0.11, 0.3),
            "scores up to 0.35: 60.00 % of rows, 40.00 % expected; at least 11.00 points more, and 1.00 is allowed",
        ),
        (
            finding("scores above 0.35", "pass", 0.4, 0.4, -0.11, 0.11),
            "scores above 0.35: 40.00 % of rows, 40.00 % expected; within the 1.00 points allowed, "
            "though up to 11.00 is not ruled out",
        ),
        (
            finding("disagreement", "fail", 0.3, 0.06, 0.15, 0.3),
            "disagreement: 30.00 % of rows, 6.00 % expected; at least 15.00 points more, and 1.00 is allowed",
        ),
    ],
)
def test_finding_is_told_with_its_numbers(found: Finding, said: str):
    assert found.sentence == said


def test_finished_rollout_is_told_step_by_step():
    told = "\n".join(sentences(GOOD.state, GOOD.looks, BEGAN))
    assert told.startswith("v4 has finished its rollout and was given all traffic.")
    passed = [line for line in told.splitlines() if " passed: " in line]
    assert [line.split(" s  ")[1].split("  ")[0].strip() for line in passed] == ["shadow", "1 %", "10 %", "50 %"]


def test_version_that_was_taken_back_is_told_with_the_true_reason():
    told = sentences(BAD.state, BAD.looks, BEGAN)
    assert told[0] == "v4 was taken back at 10 %: the stable version answers everything."
    assert told[1].startswith("Why: errors: 30.00 % beside 0.00 %; at least ")
    assert [line for line in told if line.startswith("  ✗")] == [f"  ✗ {told[1].removeprefix('Why: ').rstrip('.')}"]
    assert f"With traffic v4 answered {answered(BAD.looks)} requests, probes included." in told


def test_answers_count_only_with_traffic_and_once_a_window():
    def look(pct: int, kind: str, new: int) -> Look:
        return Look(0.0, "s", "t", pct, Action(kind, "", (), (new, 0)))  # type: ignore[arg-type]

    looks = [
        look(0, "hold", 70),
        look(0, "advance", 80),
        look(1, "hold", 5),
        look(1, "advance", 9),
        look(10, "hold", 3),
        look(10, "hold", 0),
    ]
    assert answered(looks) == 9 + 3


def test_looks_at_which_only_numbers_grew_are_one_chapter():
    assert [(one.look.step, one.did, one.count) for one in chapters(GOOD.state, GOOD.looks)][:3] == [
        ("shadow", "held", 3),
        ("shadow", "passed", 1),
        ("1 %", "held", 24),
    ]


def test_persons_word_is_a_chapter_of_its_own():
    held = GOOD.looks[0]
    word = replace(held, action=Action("hold", "paused by ann"))
    found = chapters(GOOD.state, [held, held, word, held])
    assert (found[1].did, found[1].look.action.reason, found[1].count) == ("by hand", "paused by ann", 1)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "v4 is a shadow, of whose answers clients get none; step 1 of 4, which may last 1 min 40 s more."),
        ({"step": 1}, "v4 is at 1 % of the traffic; step 2 of 4, which may last 4 min 40 s more."),
        ({"step": 3, "phase": "waiting"}, "v4 has passed every step and waits for approval, for 23 h 59 min more; "),
        ({"phase": "superseded"}, "v4 made way as a shadow."),
    ],
)
def test_headline_says_how_it_stands_and_for_how_long(changes: dict[str, object], said: str):
    state = replace(made(looks=0).state, **changes)  # type: ignore[arg-type]
    assert headline(state, BEGAN + 20).startswith(said)


def test_headline_names_who_paused():
    state = paused(made(looks=0).state, BEGAN, "ann")
    assert "paused by ann for 24 h 0 min more" in headline(state, BEGAN)


def test_story_without_a_look_is_short():
    begun = made(looks=0)
    assert sentences(begun.state, begun.looks, BEGAN) == [headline(begun.state, BEGAN), "Why: it begins."]


def test_story_of_very_many_looks_leaves_out_the_first():
    start = GOOD.looks[0]
    looks = [replace(start, action=Action("hold", f"no counters {n}")) for n in range(100)]
    told = sentences(GOOD.state, looks, BEGAN)
    assert "  ... 60 lines before" in told
    assert not any("no counters 59" in line for line in told)


def test_made_up_policy_is_followed():
    assert GOOD.state.phase == "finished"
    assert {look.step for look in GOOD.looks} == {step.describe() for step in POLICY.steps}
