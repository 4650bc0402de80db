"""What labels say about a new version beside the stable one: proof takes it back, and little less holds it."""

from typing import Any

import numpy as np
import pytest

from headrace.domain import rollout as rollouts
from headrace.domain.evidence import METRIC_COUNT, Counts, Expected, Limits, judge
from headrace.domain.findings import LOSS, Finding
from headrace.domain.rollout import Seen, next_action
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.sequences import Tally, difference

ERROR = 0.005
BEGAN = Counts(0, 0, started_at=1.0)
COUNTS = Counts(100, 0, started_at=1.0)
STABLE = Tally(100.0, 1000)


def found(new: Tally, stable: Tally = STABLE, limit: float = Limits().loss) -> Finding | None:
    every = judge(COUNTS, COUNTS, None, Limits(loss=limit), Expected(0.05), ERROR, (new, stable))
    return next((one for one in every if one.metric == LOSS), None)


def outcome(new: Tally, stable: Tally = STABLE) -> str | None:
    finding = found(new, stable)
    return None if finding is None else finding.outcome


@pytest.mark.parametrize(
    ("share", "expected"), [(0.05, "pass"), (0.12, "pass"), (0.122, "pass"), (0.17, "inconclusive"), (0.3, "fail")]
)
def test_a_loss_passes_until_chance_is_a_poor_reason_and_fails_once_it_is_none(share: float, expected: str):
    assert outcome(Tally(1000 * share, 1000)) == expected


def test_both_have_to_have_labels():
    for losses in (None, (Tally(0, 0), STABLE), (STABLE, Tally(0, 0)), (Tally(0, 0), Tally(0, 0))):
        every = judge(COUNTS, COUNTS, None, Limits(), Expected(0.05), ERROR, losses)
        assert LOSS not in {one.metric for one in every}


def test_so_few_labels_hold_nothing_whatever_they_say_but_may_prove_it():
    perfect = Tally(0, 10_000)
    assert [outcome(Tally(n, n), perfect) for n in (1, 2, 3)] == ["pass"] * 3
    assert outcome(Tally(4, 4), perfect) == "fail"
    assert outcome(Tally(4, 4), Tally(0, 4)) == "pass"
    assert outcome(Tally(5, 5), Tally(0, 5)) == "inconclusive"


def test_it_has_its_part_of_the_error():
    finding = found(Tally(300.0, 1000))
    assert finding is not None
    assert (finding.new, finding.stable, finding.limit) == (0.3, 0.1, 0.02)
    assert finding.low == difference(Tally(300.0, 1000), STABLE, ERROR / METRIC_COUNT).low


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (0.11, "within the 2.00 points allowed"),
        (0.122, "beyond the 2.00 points allowed, but labels are too few to say so"),
        (0.17, "beyond the 2.00 points allowed, but that may still be chance"),
        (0.3, "points worse, and 2.00 is allowed"),
    ],
)
def test_the_sentence_says_what_labels_prove(share: float, says: str):
    finding = found(Tally(1000 * share, 1000))
    assert finding is not None
    assert finding.sentence.startswith(f"loss: {100 * share:.2f} % beside 10.00 %; ")
    assert says in finding.sentence


def test_an_equal_version_is_seldom_held_and_hardly_ever_condemned_whenever_one_looks():
    random = np.random.default_rng(7)
    held = condemned = 0
    for _ in range(300):
        losses = random.beta(0.5, 1.5, size=(2, 1000)).cumsum(axis=1)
        seen = {outcome(*(Tally(float(one[n - 1]), n) for one in losses)) for n in range(10, 1001, 45)}
        held += "inconclusive" in seen
        condemned += "fail" in seen
    assert held <= 0.05 * 300
    assert condemned == 0


POLICY = RolloutPolicy((RolloutStep(weight_pct=10, min_requests=50, hold_s=0.0, timeout_s=60.0),))
STATE = rollouts.begin(2, POLICY, Expected(0.05), 0.0, (BEGAN, BEGAN))


def decided(**changes: Any) -> str:
    usual: dict[str, Any] = {"new": COUNTS, "stable": COUNTS, "ready": True, "elapsed_s": 3.0}
    return next_action(STATE, Seen(**usual | changes)).kind


def test_a_step_is_passed_without_labels_and_not_with_proof_against_the_version():
    assert decided() == "advance"
    assert decided(losses=(Tally(0, 0), Tally(0, 0))) == "advance"
    assert decided(losses=(Tally(3, 3), Tally(0, 3))) == "advance"
    assert decided(losses=(Tally(170, 1000), STABLE)) == "hold"
    assert decided(losses=(Tally(300, 1000), STABLE)) == "take back"


def test_proof_needs_neither_enough_answers_nor_time():
    few = Counts(4, 0, started_at=1.0)
    assert decided(new=few, elapsed_s=0.1, losses=(Tally(300, 1000), STABLE)) == "take back"
