"""How often simulated rollouts take back a version with which nothing is wrong, and one with which something is."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.rollout import power
from benchmarks.rollout.simulation import QUARTERS, End, Rates, roll_out
from headrace.domain.evidence import Limits
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep

POLICY = RolloutPolicy(
    (RolloutStep(shadow_pct=100), RolloutStep(weight_pct=1), RolloutStep(weight_pct=10), RolloutStep(weight_pct=50)),
    interval_s=2.0,
)
USUAL = Rates(errors=0.02, slow=0.03, fallbacks=0.01, disagreement=0.05)
REQUESTS_PER_S = 200
HALVES = (0.5, 1.0)


def rolled_out(policy: RolloutPolicy, new: Rates, times: int, edges: tuple[float, ...] = HALVES) -> Sequence[End]:
    random = np.random.default_rng(1729)
    return [roll_out(policy, USUAL, new, REQUESTS_PER_S, random, edges) for _ in range(times)]


@cache
def alike() -> Sequence[End]:
    return rolled_out(POLICY, USUAL, 1000)


def on_evidence(ends: Sequence[End]) -> int:
    return sum(end.on_evidence for end in ends)


def test_of_a_thousand_rollouts_of_an_equal_version_no_more_are_taken_back_on_evidence_than_the_budget_says():
    # The budget itself, with no allowance for chance: the seed is fixed, and the floors of the limits leave room.
    assert on_evidence(alike()) <= POLICY.error_budget * 1000
    assert sum(end.looks for end in alike()) / 1000 > 15, "they were looked at often"


def test_most_rollouts_of_an_equal_version_finish_and_the_others_end_at_a_deadline_without_having_been_condemned():
    late = [end for end in alike() if not end.finished and not end.on_evidence]
    assert len(late) + sum(end.finished for end in alike()) + on_evidence(alike()) == 1000
    # The step with 1 % of the traffic sees 120 answers at most, of which 2 % are errors: chance is not ruled out.
    assert {POLICY.steps[end.step].describe() for end in late} <= {"shadow", "1 %", "10 %"}
    assert len(late) <= 150


def test_a_version_that_is_just_as_bad_as_is_allowed_is_not_taken_back_on_evidence_more_often_either():
    limits = POLICY.limits
    worst = Rates(USUAL.errors + limits.errors, USUAL.slow + limits.slow, 0.0, USUAL.fallbacks + limits.fallbacks)
    assert on_evidence(rolled_out(POLICY, replace(worst, disagreement=0.15), 200)) <= 200 * POLICY.error_budget


def test_without_limits_chance_alone_takes_back_no_more_often_than_the_budget_says():
    strict = replace(POLICY, limits=Limits(**dict.fromkeys(vars(Limits()), 0.0)), error_budget=0.5)
    assert on_evidence(rolled_out(strict, USUAL, 300)) <= 300 * strict.error_budget


@pytest.mark.parametrize(
    "new",
    [
        replace(USUAL, errors=1.0),
        replace(USUAL, slow=1.0),
        replace(USUAL, bad_outputs=0.5),
        replace(USUAL, fallbacks=0.5),
        replace(USUAL, shift=0.5),
        replace(USUAL, disagreement=0.6),
    ],
    ids=["errors", "slow", "bad outputs", "fallbacks", "scores", "disagreement"],
)
def test_a_version_that_is_grossly_worse_is_always_found_in_the_shadow(new: Rates):
    ends = rolled_out(POLICY, new, 20)
    assert on_evidence(ends) == len(ends)
    assert max(end.exposed for end in ends) == 0


def test_the_power_table_holds_a_bad_version_until_it_is_found():
    policy = replace(POLICY, error_budget=0.01)
    broken, alike = power.DEGRADATIONS[3], power.Degradation("alike", USUAL, USUAL, QUARTERS)
    assert all(power.held(policy, at, broken, (1, at)) < 50 for at in range(4))
    assert power.held(policy, 2, alike, (1,)) == float("inf")
    assert power.held(policy, 1, broken, (5,)) == power.held(policy, 1, broken, (5,)), "seeded"
