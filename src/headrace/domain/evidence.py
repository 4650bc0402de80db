"""What the services' own counters say about a new version beside the one that it would replace."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from headrace.domain.sequences import Tally, bounds, difference

_STRICT = {"extra": "forbid"}

Outcome = Literal["pass", "fail", "inconclusive"]

SCORES, DISAGREEMENT = "scores up to", "disagreement"
_NOTHING = Tally(0, 0)

METRIC_COUNT = 6
"""How many metrics share the error budget of a window: errors, slow answers, bad outputs, fallbacks, scores and
disagreement."""


@dataclass(frozen=True)
class Counts:
    """Counters of one version since its processes started.

    Attributes:
        answers: requests for predictions that it answered, whatever the status.
        errors: those with status 500 or above.
        durations: upper bound in seconds to answers that took at most so long; without infinity.
        rows: rows predicted, those without a finite prediction included.
        bad_outputs: rows whose prediction can't be one: not finite, or a probability beyond 0 and 1.
        fallbacks: rows for which the online store had no usable value, once for each view and reason.
        scores: upper bound to predictions that are at most so high; without infinity.
        started_at: when its oldest process started, seconds since 1970; None when it does not say.
    """

    answers: int
    errors: int
    durations: Mapping[float, int] = field(default_factory=dict)
    rows: int = 0
    bad_outputs: int = 0
    fallbacks: int = 0
    scores: Mapping[float, int] = field(default_factory=dict)
    started_at: float | None = None

    __pydantic_config__ = _STRICT

    def since(self, before: "Counts") -> "Counts | None":
        """What came after `before`; None when they don't go together: a process was started anew in between."""
        if self.started_at != before.started_at:
            return None
        durations, scores = _less(self.durations, before.durations), _less(self.scores, before.scores)
        came = Counts(
            self.answers - before.answers,
            self.errors - before.errors,
            durations,
            self.rows - before.rows,
            self.bad_outputs - before.bad_outputs,
            self.fallbacks - before.fallbacks,
            scores,
            self.started_at,
        )
        numbers = (came.answers, came.errors, came.rows, came.bad_outputs, came.fallbacks)
        return came if min(*numbers, *durations.values(), *scores.values(), 0) == 0 else None


def _less(now: Mapping[float, int], before: Mapping[float, int]) -> dict[float, int]:
    """Bucket by bucket. One that is gone counts as none, which is less than before: those are other counters."""
    return {bound: now.get(bound, 0) - before.get(bound, 0) for bound in {**now, **before}}


@dataclass(frozen=True)
class Limits:
    """By how much a new version may be worse than the stable one, as differences of shares: the effect-size floors.

    Attributes:
        errors: of answers with status 500 or above.
        slow: of answers that take longer than the contract's latency budget.
        bad_outputs: of rows whose prediction can't be one.
        fallbacks: of rows for which the online store had no usable value.
        scores: of rows at or below any score, beyond what the holdout leads one to expect.
        disagreement: of rows on which both differ notably, beyond what the holdout leads one to expect.
    """

    errors: float = 0.01
    slow: float = 0.05
    bad_outputs: float = 0.001
    fallbacks: float = 0.05
    scores: float = 0.1
    disagreement: float = 0.1

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if not 0 <= limit < 1:
                raise ValueError(f"limits.{name} {limit} is not within 0 and 1")


@dataclass(frozen=True)
class Expected:
    """What both versions answer on the same rows of the holdout, and so how they may differ in service.

    Attributes:
        latency_budget_s: of the contract; an answer that takes longer is slow.
        tolerance: a difference of scores above this is a disagreement.
        scores: score to the share of rows at or below it by the new version, less that by the stable one.
        disagreement: share of rows on which they disagree; None when they can't be compared, since their rows differ.
    """

    latency_budget_s: float
    tolerance: float = 0.1
    scores: Mapping[float, float] = field(default_factory=dict)
    disagreement: float | None = None

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Finding:
    """One metric at one look.

    Attributes:
        new: the new version's share so far; None when nothing was seen.
        stable: the stable version's, or what is expected.
        low: the least difference that is not ruled out, beyond what is expected.
        high: the greatest.
        limit: above which a difference is too much.
    """

    metric: str
    outcome: Outcome
    new: float | None
    stable: float | None
    low: float
    high: float
    limit: float

    __pydantic_config__ = _STRICT

    @property
    def difference(self) -> float | None:
        """By how much the new version's share is above what it is held against; None when nothing was seen."""
        return None if self.new is None or self.stable is None else self.new - self.stable

    @property
    def expects(self) -> bool:
        """Whether the holdout, and not the stable version alone, says what is right."""
        return self.both_ways or self.metric == DISAGREEMENT

    @property
    def both_ways(self) -> bool:
        """Whether too low is as wrong as too high."""
        return self.metric.startswith(SCORES)

    @property
    def sentence(self) -> str:
        """For people. A point is a hundredth: from 1 % to 3 % it is two."""
        if self.new is None or self.stable is None:
            return f"{self.metric}: nothing to compare yet"
        against = f"{_pct(self.stable)} expected" if self.expects else f"beside {_pct(self.stable)}"
        said = f"{self.metric}: {_pct(self.new)}{' of rows,' if self.expects else ''} {against}"
        match self.outcome:
            case "fail":
                worse = "more" if self.expects else "worse"
                proven = (
                    f"{_points(self.low)} points {worse}"
                    if self.low > self.limit
                    else f"{_points(-self.high)} points fewer"
                )
                return f"{said}; at least {proven}, and {_points(self.limit)} is allowed"
            case "inconclusive":
                return f"{said}; beyond the {_points(self.limit)} points allowed, but that may still be chance"
        most = max(self.high, -self.low if self.both_ways else 0.0)
        unsure = f", though up to {_points(most)} is not ruled out" if most > self.limit else ", and that is proven"
        return f"{said}; within the {_points(self.limit)} points allowed{unsure}"


def _pct(share: float) -> str:
    return f"{100 * share:.2f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:.2f}"


def judge(
    new: Counts, stable: Counts, pairs: Tally | None, limits: Limits, expected: Expected, error: float
) -> tuple[Finding, ...]:
    """Compare what both versions did in the same window.

    Args:
        new: counts of the version that is tried, since the window began.
        stable: counts of the stable version, since the window began.
        pairs: rows that both predicted, and on how many of them they disagree; None outside of a shadow.
        limits: what may be.
        expected: what is known beforehand.
        error: the chance, at most, with which a version that is within the limits fails any metric at any look of the
            window.
    """
    each = error / METRIC_COUNT
    found = [
        _compared("errors", Tally(new.errors, new.answers), Tally(stable.errors, stable.answers), limits.errors, each)
    ]
    slow = (_slow(new, expected.latency_budget_s), _slow(stable, expected.latency_budget_s))
    if slow != (None, None):
        found.append(_compared("slow answers", slow[0] or _NOTHING, slow[1] or _NOTHING, limits.slow, each))
    if new.rows or stable.rows:
        for metric, ours, theirs, limit in (
            ("bad outputs", new.bad_outputs, stable.bad_outputs, limits.bad_outputs),
            ("fallbacks", new.fallbacks, stable.fallbacks, limits.fallbacks),
        ):
            found.append(_compared(metric, _of_rows(new, ours), _of_rows(stable, theirs), limit, each))
        found += _scores(new, stable, limits.scores, expected, each)
    if pairs is not None and expected.disagreement is not None:
        found.append(_disagreement(pairs, expected.disagreement, limits.disagreement, each))
    return tuple(found)


def _compared(
    metric: str, new: Tally, stable: Tally, limit: float, error: float, expected: float | None = None
) -> Finding:
    """Whether the new share is above the stable one; or, with an expected difference, away from it to either side."""
    shift, worse = expected or 0.0, difference(new, stable, error)
    low, high = worse.low - shift, worse.high - shift
    if new.share is None or stable.share is None:
        return Finding(metric, "inconclusive", new.share, stable.share, low, high, limit)
    seen = new.share - stable.share - shift
    outcome: Outcome = "pass"
    if low > limit or (expected is not None and high < -limit):
        outcome = "fail"
    elif seen > limit or (expected is not None and seen < -limit):
        outcome = "inconclusive"
    return Finding(metric, outcome, new.share, stable.share + shift, low, high, limit)


def _of_rows(counts: Counts, hits: int) -> Tally:
    """Rows of one request hang together: a request counts as one observation, however many rows it has.

    That takes requests of about one size for granted: where a few bring most of the rows, there is less to go by.
    """
    if not counts.rows:
        return _NOTHING
    total = min(counts.rows, counts.answers)
    return Tally(min(hits, counts.rows) * total / counts.rows, total)


def _slow(counts: Counts, budget_s: float) -> Tally | None:
    """Answers above the first bound that is not below the budget; None without any."""
    bound = min((one for one in counts.durations if one >= budget_s), default=None)
    if bound is None:
        return None
    return Tally(max(counts.answers - counts.durations[bound], 0), counts.answers)


def _scores(new: Counts, stable: Counts, limit: float, expected: Expected, error: float) -> Iterator[Finding]:
    """The score at which both differ most from what is expected; nothing when their buckets have no end in common."""
    if expected.scores and not (new.scores and stable.scores):
        yield _compared("scores", _NOTHING, _NOTHING, limit, error, 0.0)
        return
    edges = [edge for edge in expected.scores if edge in new.scores and edge in stable.scores]
    found = [
        _compared(
            f"{SCORES} {edge:g}",
            _of_rows(new, new.scores[edge]),
            _of_rows(stable, stable.scores[edge]),
            limit,
            error / len(edges),
            expected.scores[edge],
        )
        for edge in edges
    ]
    if found:
        yield max(found, key=lambda one: (_BADNESS[one.outcome], max(one.low, -one.high), _apart(one)))


_BADNESS = {"pass": 0, "inconclusive": 1, "fail": 2}


def _apart(one: Finding) -> float:
    return 0.0 if one.new is None or one.stable is None else abs(one.new - one.stable)


def _disagreement(pairs: Tally, expected: float, limit: float, error: float) -> Finding:
    found = bounds(pairs, error)
    low, high = found.low - expected, found.high - expected
    outcome: Outcome = "pass"
    if pairs.share is None:
        outcome = "inconclusive"
    elif low > limit:
        outcome = "fail"
    elif pairs.share - expected > limit:
        outcome = "inconclusive"
    return Finding(DISAGREEMENT, outcome, pairs.share, expected, low, high, limit)
