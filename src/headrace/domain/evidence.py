"""What the services' own counters say about a new version beside the one that it would replace."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from headrace.domain.findings import DISAGREEMENT, LOSS, SCORES, Finding, Outcome
from headrace.domain.score_shift import across
from headrace.domain.sequences import Tally, bounds, difference

_STRICT = {"extra": "forbid"}

_NOTHING = Tally(0, 0)

METRIC_COUNT = 8
"""How many metrics share the error budget of a window: errors, refusals, slow answers, bad outputs, fallbacks, scores,
disagreement and loss."""

# The chance, at most, that an equal version is ever held since its loss seems to be greater.
_DOUBT = 0.05
# Of fewer labels of either version nothing is held.
_HANDFUL = 5


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
        refusals: answers with status 400 to 499.
    """

    answers: int
    errors: int
    durations: Mapping[float, int] = field(default_factory=dict)
    rows: int = 0
    bad_outputs: int = 0
    fallbacks: int = 0
    scores: Mapping[float, int] = field(default_factory=dict)
    started_at: float | None = None
    refusals: int = 0

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
            self.refusals - before.refusals,
        )
        numbers = (came.answers, came.errors, came.rows, came.bad_outputs, came.fallbacks, came.refusals)
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
        scores: of rows above or up to any score, beyond a tolerance and what the holdout leads one to expect.
        disagreement: of rows on which both differ notably, beyond what the holdout leads one to expect.
        refusals: of answers with status 400 to 499.
        loss: of the mean loss of predictions whose outcome is known, each within 0 and 1.
    """

    errors: float = 0.01
    slow: float = 0.05
    bad_outputs: float = 0.001
    fallbacks: float = 0.05
    scores: float = 0.1
    disagreement: float = 0.1
    refusals: float = 0.01
    loss: float = 0.02

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
        scores: end of a bucket to what the holdout shows there, see `score_shift.expected_shifts`.
        disagreement: share of rows on which they disagree; None when they can't be compared, since their rows differ.
        span: from the least to the greatest score of the stable version, by which errors of a regression are measured;
            None where that is not known, or not needed.
    """

    latency_budget_s: float
    tolerance: float = 0.1
    scores: Mapping[float, float] = field(default_factory=dict)
    disagreement: float | None = None
    span: float | None = None

    __pydantic_config__ = _STRICT


def judge(
    new: Counts,
    stable: Counts,
    pairs: Tally | None,
    limits: Limits,
    expected: Expected,
    error: float,
    losses: tuple[Tally, Tally] | None = None,
    repeated: float = 0.0,
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
        losses: of both versions' predictions whose outcome is known; None where nothing is.
        repeated: share of the rows that are not the first of their kind. They may all move together, however good the
            version is, so that much is allowed of scores on top.
    """
    each = error / METRIC_COUNT
    found = [
        _compared("errors", _of_answers(new, new.errors), _of_answers(stable, stable.errors), limits.errors, each),
        _compared(
            "refusals", _of_answers(new, new.refusals), _of_answers(stable, stable.refusals), limits.refusals, each
        ),
    ]
    slow = (_slow(new, expected.latency_budget_s), _slow(stable, expected.latency_budget_s))
    if slow != (None, None):
        found.append(_compared("slow answers", slow[0] or _NOTHING, slow[1] or _NOTHING, limits.slow, each))
    if new.rows or stable.rows:
        found += _rows(new, stable, replace(limits, scores=min(limits.scores + repeated, 0.999)), expected, each)
    if pairs is not None and expected.disagreement is not None:
        found.append(_disagreement(pairs, expected.disagreement, limits.disagreement, each))
    if losses is not None and losses[0].total and losses[1].total:
        found.append(_loss(*losses, limits.loss, each))
    return tuple(found)


def _rows(new: Counts, stable: Counts, limits: Limits, expected: Expected, error: float) -> Iterator[Finding]:
    for metric, ours, theirs, limit in (
        ("bad outputs", new.bad_outputs, stable.bad_outputs, limits.bad_outputs),
        ("fallbacks", new.fallbacks, stable.fallbacks, limits.fallbacks),
    ):
        yield _compared(metric, _of_rows(new, ours), _of_rows(stable, theirs), limit, error)
    yield from _scores(new, stable, limits.scores, expected, error)


def _compared(metric: str, new: Tally, stable: Tally, limit: float, error: float, expected: float = 0.0) -> Finding:
    """Whether the new share is above the stable one by more than is expected and allowed."""
    worse = difference(new, stable, error)
    low, high = worse.low - expected, worse.high - expected
    if new.share is None or stable.share is None:
        return Finding(metric, "inconclusive", new.share, stable.share, low, high, limit)
    outcome = _outcome(low, new.share - stable.share - expected, limit)
    return Finding(metric, outcome, new.share, stable.share + expected, low, high, limit)


def _outcome(low: float, seen: float, limit: float) -> Outcome:
    """Of a difference beyond what is expected: the least that is not ruled out, and the one that was seen."""
    if low > limit:
        return "fail"
    return "inconclusive" if seen > limit else "pass"


def _loss(new: Tally, stable: Tally, limit: float, error: float) -> Finding:
    """Open only where chance has become a poor reason: labels come late and few, and must not hold what is fine."""
    found = _compared(LOSS, new, stable, limit, error)
    few = min(new.total, stable.total) < _HANDFUL
    if found.outcome == "inconclusive" and (few or difference(new, stable, _DOUBT).low <= 0):
        return replace(found, outcome="pass")
    return found


def _of_answers(counts: Counts, hits: int) -> Tally:
    return Tally(min(hits, counts.answers), counts.answers)


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
    """The score at which the new version is worst; nothing when their buckets have no ends in common."""
    if expected.scores and not (new.scores and stable.scores):
        yield _compared(SCORES, _NOTHING, _NOTHING, limit, error)
        return
    ends = across((end for end in new.scores if end in stable.scores), expected.tolerance)
    shifts = {end: expected.scores[end] for end in ends if end in expected.scores}
    found = []
    for end, shift in shifts.items():
        far, each = ends[end], error / len(shifts) / 2
        low = (_of_rows(new, new.scores[end]), _of_rows(stable, stable.scores[far]))
        found.append(_compared(f"{SCORES} up to {end:g}", *low, limit, each, shift))
        high = (_of_rows(new, new.rows - new.scores[far]), _of_rows(stable, stable.rows - stable.scores[end]))
        found.append(_compared(f"{SCORES} above {far:g}", *high, limit, each, -shift))
    if found:
        yield max(found, key=lambda one: (_BADNESS[one.outcome], one.low, one.difference))


_BADNESS = {"pass": 0, "inconclusive": 1, "fail": 2}


def _disagreement(pairs: Tally, expected: float, limit: float, error: float) -> Finding:
    found = bounds(pairs, error)
    low, high = found.low - expected, found.high - expected
    outcome = "inconclusive" if pairs.share is None else _outcome(low, pairs.share - expected, limit)
    return Finding(DISAGREEMENT, outcome, pairs.share, expected, low, high, limit)
