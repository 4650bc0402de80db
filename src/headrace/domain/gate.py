"""Whether a challenger may replace the champion. Whatever is missing speaks against it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TypeGuard

from headrace.domain.contract import PRIMARY_METRICS, Budgets
from headrace.domain.metrics import BUSINESS_VALUE, CALIBRATION_ERROR, HIGHER_IS_BETTER, LOWER_IS_BETTER, ZERO_IS_BEST
from headrace.domain.resampling import Interval, Resampling
from headrace.domain.scoring import Evaluation, GroupScore
from headrace.domain.wording import minute, ranged, signed, told

_STRICT = {"extra": "forbid"}
_MIN_RESAMPLES = 100


@dataclass(frozen=True)
class GatePolicy:
    """What a challenger has to show. Margins and limits are in the unit of the metric unless said otherwise.

    Attributes:
        min_rows: fewest rows of a holdout that counts as evidence.
        floor: the worst that the primary metric may be at the unfavourable end of its interval.
        non_inferiority_margin: how much worse than the champion the primary metric may be at the unfavourable end of
            the difference's interval.
        slice_margin: how much worse than the champion the primary metric may be in any group.
        slice_min_rows: groups with fewer rows are reported and not judged.
        calibration_error_max: highest calibration error, see `headrace.domain.metrics`.
        calibration_worse_max: how much higher than the champion's it may be.
        min_gain: the primary metric has to be better than the champion's by more than this; with 0 a tie keeps the
            champion.
        secondary_margin: other metrics to the margin by which they may be worse than the champion's, judged like
            `non_inferiority_margin`; the margin of `business_value` is a share of the champion's value.
        parity_flips_max: rows that the exported model may answer otherwise than the trained one.
        confidence: of the intervals, 0 to 1.
        resamples, seed: of the bootstrap behind the intervals.
    """

    min_rows: int
    floor: float
    non_inferiority_margin: float
    slice_margin: float
    slice_min_rows: int
    calibration_error_max: float
    calibration_worse_max: float
    min_gain: float = 0.0
    secondary_margin: Mapping[str, float] = field(default_factory=dict)
    parity_flips_max: int = 0
    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "secondary_margin"}
        numbers |= {f"secondary_margin.{metric}": margin for metric, margin in self.secondary_margin.items()}
        for name, number in numbers.items():
            # A comparison with NaN is false either way: a limit that is NaN would forbid nothing or everything.
            if not math.isfinite(number) or (number < 0 and name != "floor"):
                raise ValueError(
                    f"{name} {number} has to be a finite number" + ("" if name == "floor" else ", 0 or more")
                )
        if self.min_rows < 1 or self.slice_min_rows < 1:
            raise ValueError(f"min_rows {self.min_rows} and slice_min_rows {self.slice_min_rows} must be at least 1")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence {self.confidence} is not within 0.5 and 1")
        if self.resamples < _MIN_RESAMPLES:
            raise ValueError(f"resamples {self.resamples} must be at least {_MIN_RESAMPLES} for an interval")
        unknown = sorted(set(self.secondary_margin) - HIGHER_IS_BETTER - LOWER_IS_BETTER - ZERO_IS_BEST)
        if unknown:
            raise ValueError(f"secondary_margin names {unknown}, which are not metrics")

    @property
    def resampling(self) -> Resampling:
        """How the intervals that this policy judges are made."""
        return Resampling(self.confidence, self.resamples, self.seed)


@dataclass(frozen=True)
class Reason:
    """One rule, whether it was kept, and the numbers in a sentence."""

    rule: str
    passed: bool
    sentence: str

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Verdict:
    """The decision, with every rule that was looked at."""

    promote: bool
    reasons: tuple[Reason, ...]

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if self.promote and not (self.reasons and all(reason.passed for reason in self.reasons)):
            raise ValueError("a verdict promotes only when there are rules and all of them are kept")

    @property
    def failed(self) -> tuple[Reason, ...]:
        """The rules that were broken."""
        return tuple(reason for reason in self.reasons if not reason.passed)

    @property
    def summary(self) -> str:
        """The decision in one line."""
        if self.promote:
            sentences = {reason.rule: reason.sentence for reason in self.reasons}
            why = sentences.get("gain", sentences.get("floor", self.reasons[0].sentence))
            return f"promoted, all {len(self.reasons)} rules kept: {why}"
        if not self.failed:
            return "rejected, no rule was looked at"
        first, *others = self.failed
        also = f"; also {', '.join(reason.rule for reason in others)}" if others else ""
        return f"rejected, {len(self.failed)} of {len(self.reasons)} rules broken: {first.sentence}{also}"


def decide(policy: GatePolicy, budgets: Budgets, evaluation: Evaluation) -> Verdict:
    """Judge an evaluation: every rule is looked at, and all of them have to be kept.

    Without a champion only the rules that need none apply.
    """
    reasons = list(_absolute_rules(policy, budgets, evaluation))
    if _has_champion(evaluation):
        reasons += _relative_rules(policy, evaluation)
    return Verdict(all(reason.passed for reason in reasons), tuple(reasons))


def _has_champion(evaluation: Evaluation) -> bool:
    """Any trace of one counts: half a champion must not be judged by the rules for none."""
    facts = (evaluation.champion, evaluation.champion_version, evaluation.champion_learnt_until)
    compared = any(group.champion is not None or group.difference for group in evaluation.groups)
    return any(fact is not None for fact in facts) or bool(evaluation.differences) or compared


def _absolute_rules(policy: GatePolicy, budgets: Budgets, evaluation: Evaluation) -> Iterator[Reason]:
    yield Reason(
        "rows",
        evaluation.rows >= policy.min_rows,
        f"{evaluation.rows:,} rows in the holdout, at least {policy.min_rows:,} asked for",
    )
    problems = list(_problems(policy, evaluation))
    complete = f"every number that is judged is there and finite, at {policy.confidence:.4g} confidence"
    yield Reason("evidence", not problems, "; ".join(problems) or complete)
    yield _independence(evaluation)
    yield _floor(policy, evaluation)
    error = _value(evaluation.challenger.get(CALIBRATION_ERROR))
    yield _at_most("calibration", f"{CALIBRATION_ERROR} {told(error)}", error, policy.calibration_error_max)
    yield Reason(
        "parity",
        0 <= evaluation.parity_flips <= policy.parity_flips_max and _is_number(evaluation.parity_max_difference),
        f"{evaluation.parity_flips} decisions changed by the export, at most {policy.parity_flips_max} "
        f"allowed; largest distance {told(evaluation.parity_max_difference)}",
    )
    latency, size = evaluation.latency_ms_p99, evaluation.size_mb
    yield _at_most("latency", f"p99 of one row {told(latency)} ms", latency, budgets.latency_ms_p99)
    yield _at_most("size", f"model file {told(size)} MB", size, budgets.size_mb)


def _relative_rules(policy: GatePolicy, evaluation: Evaluation) -> Iterator[Reason]:
    metric, champion = evaluation.metric, _champion(evaluation)
    ends = [end for found in evaluation.differences.values() for end in (found.value, found.low, found.high)]
    yield Reason(
        "identity",
        any(_is_number(end) and end != 0 for end in ends),
        f"{sum(end != 0 for end in ends)} of {len(ends)} compared numbers differ from those of {champion}; "
        "with none the two are the same model",
    )
    yield _not_worse("non_inferiority", metric, policy.non_inferiority_margin, evaluation)
    gain = _value(evaluation.differences.get(metric))
    yield Reason(
        "gain",
        _is_number(gain) and gain > policy.min_gain,
        f"{_pair(metric, evaluation)}, a gain of {signed(gain)}; more than {told(policy.min_gain)} asked for",
    )
    new, old = (_value((side or {}).get(CALIBRATION_ERROR)) for side in (evaluation.challenger, evaluation.champion))
    more = new - old if _is_number(new) and _is_number(old) else None
    change = f"{_pair(CALIBRATION_ERROR, evaluation)}, {signed(more)}"
    yield _at_most("calibration_change", change, more, policy.calibration_worse_max, lowest=-math.inf)
    for secondary, margin in sorted(policy.secondary_margin.items()):
        old = _value((evaluation.champion or {}).get(secondary))
        allowed = margin * abs(old if old is not None else math.nan) if secondary == BUSINESS_VALUE else margin
        yield _not_worse(f"secondary.{secondary}", secondary, allowed, evaluation)
    yield _slices(policy, evaluation)


def _problems(policy: GatePolicy, evaluation: Evaluation) -> Iterator[str]:
    """What is missing from the evidence, or cannot be."""
    if evaluation.metric not in PRIMARY_METRICS.get(evaluation.task, ()):
        yield f"{evaluation.metric!r} is no primary metric of {evaluation.task}"
    if evaluation.confidence != policy.confidence:
        yield f"intervals have confidence {told(evaluation.confidence)}, {told(policy.confidence)} asked for"
    sides: dict[str, Mapping[str, Interval]] = {"challenger": evaluation.challenger}
    required = {evaluation.metric, CALIBRATION_ERROR}
    if _has_champion(evaluation):
        sides |= {"champion": evaluation.champion or {}, "difference": evaluation.differences}
        required |= set(policy.secondary_margin)
        if evaluation.champion_version is None:
            yield "the champion has no version"
    for side, found in sides.items():
        for metric in sorted(required - set(found)):
            yield f"{side} has no {metric}"
        for metric, measured in found.items():
            if not _is_sound(measured):
                yield f"{side} has {metric} {ranged(measured)}"
    for group in evaluation.groups:
        known = [score for score in (group.challenger, group.champion) if score is not None]
        if not all(map(_is_number, known)) or (group.difference and not _is_sound(group.difference)):
            yield f"{group.slice} {group.group} has a score that is not finite"


def _independence(evaluation: Evaluation) -> Reason:
    start, end = evaluation.holdout_start, evaluation.holdout_end
    learnt: dict[str, datetime | None] = {"the challenger": evaluation.challenger_learnt_until}
    if _has_champion(evaluation):
        learnt[_champion(evaluation)] = evaluation.champion_learnt_until
    return Reason(
        "independence",
        start < end and all(until is not None and until <= start for until in learnt.values()),
        f"holdout from {minute(start)} to {minute(end)}; "
        + ", ".join(f"{who} learnt until {minute(until)}" for who, until in learnt.items()),
    )


def _floor(policy: GatePolicy, evaluation: Evaluation) -> Reason:
    metric, found = evaluation.metric, evaluation.challenger.get(evaluation.metric)
    higher = metric in HIGHER_IS_BETTER
    reached = found is not None and (found.low >= policy.floor if higher else found.high <= policy.floor)
    rule = f"its {'lower' if higher else 'upper'} end has to be {told(policy.floor)} or {'more' if higher else 'less'}"
    return Reason("floor", reached and _is_sound(found), f"{metric} {ranged(found)}; {rule}")


def _not_worse(rule: str, metric: str, margin: float, evaluation: Evaluation) -> Reason:
    found = evaluation.differences.get(metric)
    return Reason(
        rule,
        found is not None and _is_sound(found) and found.low >= -margin,
        f"{metric} against {_champion(evaluation)}: {ranged(found, signed)}, positive is better; "
        f"its lower end has to be {told(0.0 - margin)} or more",
    )


def _slices(policy: GatePolicy, evaluation: Evaluation) -> Reason:
    judged = [group for group in evaluation.groups if group.rows >= policy.slice_min_rows]
    broken = [group for group in judged if not _gap(group) >= -policy.slice_margin]
    count = f"{len(broken)} of {len(judged)} groups with {policy.slice_min_rows:,} rows or more are worse by more than "
    count += f"{told(policy.slice_margin)} in {evaluation.metric}, or have no value"
    shown = broken or sorted(judged, key=_gap)[:1]
    named = ", ".join(f"{g.slice} {g.group} {signed(_value(g.difference))} ({g.rows:,} rows)" for g in shown)
    return Reason("slices", not broken, count + (f": {named}" if broken else f"; worst: {named}" if judged else ""))


def _at_most(rule: str, what: str, number: float | None, limit: float, lowest: float = 0.0) -> Reason:
    passed = _is_number(number) and lowest <= number <= limit
    return Reason(rule, passed, f"{what}, at most {told(limit)}{'' if lowest == 0 else ' more'} allowed")


def _is_number(number: float | None) -> TypeGuard[float]:
    return number is not None and math.isfinite(number)


def _is_sound(found: Interval | None) -> TypeGuard[Interval]:
    return (
        found is not None and all(map(math.isfinite, (found.value, found.low, found.high))) and found.low <= found.high
    )


def _value(found: Interval | None) -> float | None:
    return None if found is None else found.value


def _gap(group: GroupScore) -> float:
    return group.difference.value if group.difference else math.nan


def _champion(evaluation: Evaluation) -> str:
    return "the champion" if evaluation.champion_version is None else f"champion v{evaluation.champion_version}"


def _pair(metric: str, evaluation: Evaluation) -> str:
    new, old = _value(evaluation.challenger.get(metric)), _value((evaluation.champion or {}).get(metric))
    return f"{metric} {told(new)} against {_champion(evaluation)}'s {told(old)}"
