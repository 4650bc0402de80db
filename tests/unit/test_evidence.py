"""What counters say about a new version beside the stable one."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain.evidence import METRIC_COUNT, Counts, Expected, Limits, judge
from headrace.domain.findings import Finding
from headrace.domain.sequences import Tally, difference

LIMITS = Limits()
ERROR = 0.005
N = 2000
ENDS = (0.4, 0.5, 0.6, 1.0)


def below(count: int, rows: int = N) -> dict[float, int]:
    """Scores of which so many are below 0.4, and the others above 0.6."""
    return {**dict.fromkeys(ENDS[:-1], count), 1.0: rows}


def counts(**changes: Any) -> Counts:
    """Of a version with which nothing is wrong: fast, with scores that are half below 0.5."""
    usual = {"durations": {0.05: N, 0.1: N}, "rows": N, "scores": below(N // 2), "started_at": 7.0}
    return Counts(**{"answers": N, "errors": 0} | usual | changes)


GOOD = counts()
EXPECTED = Expected(latency_budget_s=0.05, scores=dict.fromkeys(ENDS, 0.0), disagreement=0.02)


def found(new: Counts, stable: Counts = GOOD, pairs: Tally | None = None, **expected: Any) -> dict[str, Finding]:
    """Metric to what is found of it; scores are told with the score, which is left out here."""
    every = judge(new, stable, pairs, LIMITS, replace(EXPECTED, **expected), ERROR)
    return {one.metric.split(" up to ")[0].split(" above ")[0]: one for one in every}


def outcomes(new: Counts, stable: Counts = GOOD, pairs: Tally | None = None, **expected: Any) -> dict[str, str]:
    return {metric: one.outcome for metric, one in found(new, stable, pairs, **expected).items()}


def test_since_takes_off_what_was_there_before():
    before = counts(errors=3, refusals=4, bad_outputs=2, fallbacks=1)
    changed = {"durations": {0.05: N + 10, 0.1: N + 40}, "rows": N + 60, "bad_outputs": 2, "fallbacks": 9}
    now = counts(answers=N + 50, errors=5, refusals=7, **changed)
    assert now.since(before) == Counts(50, 2, {0.05: 10, 0.1: 40}, 60, 0, 8, dict.fromkeys(ENDS, 0), 7.0, 3)


def test_buckets_come_with_the_first_answer():
    assert GOOD.since(Counts(0, 0, started_at=7.0)) == GOOD


@pytest.mark.parametrize("counter", ["answers", "errors", "refusals", "rows", "bad_outputs", "fallbacks"])
def test_a_counter_that_is_less_than_before_began_anew(counter: str):
    before = counts(errors=5, refusals=5, bad_outputs=5, fallbacks=5)
    assert replace(before, **{counter: getattr(before, counter) - 1}).since(before) is None


@pytest.mark.parametrize("buckets", ["durations", "scores"])
@pytest.mark.parametrize("spoil", [lambda old: {}, lambda old: {bound: count - 1 for bound, count in old.items()}])
def test_a_histogram_that_is_less_than_before_or_gone_began_anew(buckets: str, spoil: Any):
    assert replace(GOOD, **{buckets: spoil(getattr(GOOD, buckets))}).since(GOOD) is None


@pytest.mark.parametrize(("then", "now"), [(7.0, 8.0), (7.0, None), (None, 7.0), (math.nan, math.nan)])
def test_counts_of_another_start_do_not_go_together_even_when_they_are_more(then: float | None, now: float | None):
    assert counts(answers=N + 1, started_at=now).since(counts(started_at=then)) is None


def test_a_service_that_does_not_say_when_it_started_is_judged_by_its_counters():
    assert counts(started_at=None).since(counts(started_at=None)) is not None


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=6, max_size=6), st.lists(st.integers(0, 10**9), min_size=6, max_size=6))
def test_since_undoes_adding(first: list[int], second: list[int]):
    def of(numbers: list[int]) -> Counts:
        return Counts(numbers[0], numbers[1], {0.1: numbers[2]}, numbers[3], 0, 0, {0.5: numbers[4], 1.0: numbers[5]})

    assert of([a + b for a, b in zip(first, second, strict=True)]).since(of(first)) == of(second)


def test_an_equal_version_passes_on_every_metric():
    assert outcomes(GOOD, pairs=Tally(20, 1000)) == dict.fromkeys(
        ["errors", "refusals", "slow answers", "bad outputs", "fallbacks", "scores", "disagreement"], "pass"
    )


def slow(share: float) -> Mapping[str, Any]:
    return {"durations": {0.05: round(N * (1 - share)), 0.1: N}}


# Metric to counts that are within the limit, beyond it by what may be chance, and beyond it for certain.
WORSE: dict[str, list[Mapping[str, Any]]] = {
    "errors": [{"errors": 20}, {"errors": 21}, {"errors": 200}],
    "refusals": [{"refusals": 20}, {"refusals": 21}, {"refusals": 200}],
    "slow answers": [slow(0.05), slow(0.06), slow(0.3)],
    "bad outputs": [{"bad_outputs": 2}, {"bad_outputs": 3}, {"bad_outputs": 100}],
    "fallbacks": [{"fallbacks": 100}, {"fallbacks": 120}, {"fallbacks": 600}],
    "scores": [{"scores": below(1190)}, {"scores": below(1220)}, {"scores": below(1700)}],
}


@pytest.mark.parametrize("metric", [*WORSE])
def test_a_metric_passes_within_its_limit_is_open_beyond_it_and_fails_once_chance_is_ruled_out(metric: str):
    seen = [outcomes(counts(**change)) for change in WORSE[metric]]
    assert [one.pop(metric) for one in seen] == ["pass", "inconclusive", "fail"]
    assert all(set(others.values()) == {"pass"} for others in seen), "only this one is worse"


@pytest.mark.parametrize("metric", [one for one in WORSE if one != "scores"])
def test_a_version_that_is_better_passes(metric: str):
    worse = counts(**WORSE[metric][2])
    assert set(outcomes(GOOD, worse).values()) == {"pass"}
    assert set(outcomes(worse, worse).values()) == {"pass"}


@pytest.mark.parametrize("low", [300, 1700])
def test_scores_that_shift_to_either_side_fail(low: int):
    assert outcomes(counts(scores=below(low)))["scores"] == "fail"


def test_scores_that_shift_as_the_holdout_predicts_pass_and_those_that_do_not_shift_fail():
    shifted = counts(scores=below(1700))
    expected = {0.4: 0.35, 0.5: 0.35, 0.6: 0.0}
    assert outcomes(shifted, scores=expected)["scores"] == "pass"
    assert outcomes(GOOD, scores=expected)["scores"] == "fail"


def test_the_score_that_speaks_most_against_it_is_told():
    new = counts(scores={0.3: 300, **below(1700)})
    stable = counts(scores={0.3: 290, **below(1000)})
    every = judge(new, stable, None, LIMITS, replace(EXPECTED, scores={0.3: 0.0, 0.4: 0.0, 0.5: 0.0}), ERROR)
    [told] = [one for one in every if one.metric.startswith("scores")]
    assert told.metric in ("scores up to 0.4", "scores up to 0.5")
    each = ERROR / METRIC_COUNT / 3 / 2
    assert told.low == difference(Tally(1700, N), Tally(1000, N), each).low, "they share the error"


def test_rows_that_repeat_may_move_together_whatever_the_limit():
    shifted = counts(scores=below(1700))
    judged = {
        repeated: {
            one.metric.split(" ")[0]: one for one in judge(shifted, GOOD, None, LIMITS, EXPECTED, ERROR, None, repeated)
        }
        for repeated in (0.0, 0.1, 0.5, 1.0)
    }
    assert [one["scores"].outcome for one in judged.values()] == ["fail", "fail", "pass", "pass"]
    assert {one["bad"].outcome for one in judged.values()} == {"pass"}


def test_scores_that_move_within_the_tolerance_pass():
    crossed = counts(scores={0.4: 0, 0.5: N // 2, 0.6: N, 1.0: N})
    assert outcomes(crossed)["scores"] == "pass"
    assert outcomes(crossed, tolerance=0.0)["scores"] == "fail"


def test_scores_in_buckets_without_a_common_end_are_not_compared():
    assert "scores" not in outcomes(counts(scores={3.0: N}))
    assert "scores" not in outcomes(GOOD, scores={})


@pytest.mark.parametrize(
    ("hits", "outcome"), [(20, "pass"), (119, "pass"), (130, "inconclusive"), (400, "fail"), (0, "pass")]
)
def test_disagreement_is_held_against_what_the_holdout_leads_one_to_expect(hits: int, outcome: str):
    assert outcomes(GOOD, pairs=Tally(hits, 1000))["disagreement"] == outcome


def test_two_versions_that_should_differ_much_may_differ_so_much():
    seen = [outcomes(GOOD, pairs=Tally(hits, 1000), disagreement=0.3)["disagreement"] for hits in (390, 450, 600)]
    assert seen == ["pass", "inconclusive", "fail"]


def test_disagreement_is_left_out_where_there_is_no_shadow_or_nothing_to_expect():
    assert "disagreement" not in outcomes(GOOD)
    assert "disagreement" not in outcomes(GOOD, pairs=Tally(1000, 1000), disagreement=None)


@pytest.mark.parametrize(
    ("new", "stable", "open_questions"),
    [
        (Counts(0, 0), GOOD, {"errors", "refusals", "slow answers", "bad outputs", "fallbacks", "scores"}),
        (GOOD, Counts(0, 0), {"errors", "refusals", "slow answers", "bad outputs", "fallbacks", "scores"}),
        (counts(durations={}), GOOD, {"slow answers"}),
        (GOOD, counts(durations={}), {"slow answers"}),
        (counts(rows=0, scores={}), GOOD, {"bad outputs", "fallbacks", "scores"}),
        (counts(scores={}), GOOD, {"scores"}),
    ],
    ids=["nothing of the new", "nothing of the stable", "no durations", "none of the stable", "no rows", "no scores"],
)
def test_what_only_one_version_tells_is_an_open_question_and_never_a_pass(
    new: Counts, stable: Counts, open_questions: set[str]
):
    seen = found(new, stable)
    assert {metric for metric, one in seen.items() if one.outcome != "pass"} == open_questions
    assert all(seen[metric].sentence.endswith("nothing to compare yet") for metric in open_questions)


def test_no_pairs_yet_are_an_open_question():
    assert outcomes(GOOD, pairs=Tally(0, 0))["disagreement"] == "inconclusive"


def test_rows_of_one_request_count_as_one_observation():
    shares = {"bad_outputs": 0.002, "fallbacks": 0.07, "scores": 0.7}

    def of(rows: int) -> Counts:
        scores = below(round(rows * shares["scores"]), rows)
        bad, fallbacks = round(rows * shares["bad_outputs"]), round(rows * shares["fallbacks"])
        return counts(rows=rows, bad_outputs=bad, fallbacks=fallbacks, scores=scores)

    few, many = found(of(N)), found(of(1000 * N))
    assert few == many


def test_fewer_rows_than_requests_count_as_they_are():
    finding = found(counts(rows=10, bad_outputs=10, scores=below(0, 0)))["bad outputs"]
    assert finding.low == difference(Tally(10, 10), Tally(0, N), ERROR / METRIC_COUNT).low


def test_more_fallbacks_than_rows_are_all_rows():
    assert found(counts(fallbacks=5 * N))["fallbacks"].new == 1.0


def test_slow_is_what_is_above_the_first_bucket_that_the_budget_fits_in():
    new = counts(durations={0.01: 0, 0.05: 1500, 0.1: N})
    assert found(new)["slow answers"].new == 0.25
    assert found(new, latency_budget_s=0.06)["slow answers"].new == 0.0
    assert "slow answers" not in outcomes(new, latency_budget_s=0.2), "beyond all buckets nobody can tell"


def test_the_metrics_share_the_error():
    finding = found(counts(errors=200), counts(errors=10))["errors"]
    allowed = difference(Tally(200, N), Tally(10, N), ERROR / METRIC_COUNT)
    assert (finding.low, finding.high) == (allowed.low, allowed.high)
    assert len(vars(Limits())) == METRIC_COUNT


@settings(deadline=None)
@given(st.integers(0, N), st.integers(0, N), st.integers(0, N), st.integers(0, N))
def test_a_finding_is_no_better_than_its_numbers(errors: int, theirs: int, low: int, their_low: int):
    new = counts(errors=errors, scores=below(low))
    stable = counts(errors=theirs, scores=below(their_low))
    for one in judge(new, stable, None, LIMITS, EXPECTED, ERROR):
        assert one.new is not None
        assert one.stable is not None
        difference = one.new - one.stable
        assert one.low <= difference <= one.high
        assert (one.outcome == "pass") == (difference <= one.limit)
        assert (one.outcome == "fail") == (one.low > one.limit)


def test_a_finding_tells_both_shares_in_percent():
    for change in WORSE["errors"]:
        new = counts(**change)
        assert f"errors: {100 * new.errors / N:.2f} % beside 0.00 %" in found(new)["errors"].sentence
