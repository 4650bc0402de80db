"""What the holdout says about a challenger, alone and against the champion: values that the gate decides from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.domain import metrics
from headrace.domain.contract import Contract, Feature, Slice, Task
from headrace.domain.metrics import BUSINESS_VALUE, Measure, goodness
from headrace.domain.resampling import Interval, Resampling, draws, interval

_STRICT = {"extra": "forbid"}

MISSING = "missing"
OUTSIDE = "outside"


@dataclass(frozen=True)
class GroupScore:
    """The primary metric on one group of rows.

    Attributes:
        slice, group: e.g. "carrier" and "UA".
        challenger, champion: None where the metric has no value, such as the AUC of one class, or there is no champion.
        difference: positive when the challenger is better; None where one of them has no value.
    """

    slice: str
    group: str
    rows: int
    challenger: float | None
    champion: float | None
    difference: Interval | None

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Evaluation:
    """A challenger and, when there is one, the champion on the same holdout.

    A metric that has no value is not in its mapping; no number in here is NaN.

    Attributes:
        metric: the primary metric.
        holdout_start, holdout_end: decision times of the rows, end exclusive (UTC).
        confidence: of every interval.
        challenger, champion: metric to value, in the metric's unit and direction.
        differences: metric to challenger against champion, turned so that positive is better for the challenger.
        groups: the primary metric by slice.
        challenger_learnt_until, champion_learnt_until: no label that became known later was learnt from (UTC).
        parity_flips: holdout rows on which the exported model answers something else than the trained one.
        parity_max_difference: largest distance between the two, in the prediction's unit; None when not measured.
        latency_ms_p99: one row through the exported model; None when not measured.
        size_mb: the exported model; None when not measured.
        business_value: what `business_value` among the metrics is called.
    """

    task: Task
    metric: str
    rows: int
    holdout_start: datetime
    holdout_end: datetime
    confidence: float
    challenger: Mapping[str, Interval]
    champion: Mapping[str, Interval] | None
    differences: Mapping[str, Interval]
    groups: tuple[GroupScore, ...]
    challenger_learnt_until: datetime
    champion_version: int | None
    champion_learnt_until: datetime | None
    parity_flips: int
    parity_max_difference: float | None
    latency_ms_p99: float | None
    size_mb: float | None
    business_value: str

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        for name in ("holdout_start", "holdout_end", "challenger_learnt_until", "champion_learnt_until"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} {moment} has no time zone")


@dataclass(frozen=True, eq=False)
class Holdout:
    """Rows that no model has learnt from, in any order that all arrays share.

    Attributes:
        y: labels (n_rows,): 0 and 1, class positions, or numbers in the label's unit.
        start, end: decision times of the rows, end exclusive (UTC).
        groups: slice name to the group of every row (n_rows,), see `slice_labels`.
    """

    y: NDArray[Any]
    start: datetime
    end: datetime
    groups: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Contender:
    """A model's answers on the holdout.

    Attributes:
        prediction: (n_rows,) probabilities of 1 or numbers; (n_rows, n_classes) probabilities.
        value: business value of each answer (n_rows,).
        learnt_until: no label that became known later was learnt from (UTC).
        version: None for a challenger, which has none yet.
    """

    prediction: NDArray[Any]
    value: NDArray[Any]
    learnt_until: datetime
    version: int | None = None


@dataclass(frozen=True)
class Export:
    """What was measured of the exported model; see `Evaluation` for the units."""

    parity_flips: int
    parity_max_difference: float
    latency_ms_p99: float
    size_mb: float


def compare(
    contract: Contract,
    holdout: Holdout,
    challenger: Contender,
    champion: Contender | None,
    *,
    export: Export,
    resampling: Resampling,
) -> Evaluation:
    """Score a challenger on the holdout, against the champion when there is one.

    A contender with a prediction that is not finite, or not a probability, gets no metric of its predictions, and one
    with a business value that is not finite gets no business value: the gate rejects what is missing.

    Raises:
        ValueError: arrays differ in length, a label is impossible for the task, or a time has no zone.
    """
    sides = {"challenger": challenger} | ({"champion": champion} if champion else {})
    _check_lengths(holdout, sides)
    bench = _Bench(contract, holdout, sides, resampling)
    return Evaluation(
        task=contract.task,
        metric=contract.metric,
        rows=len(holdout.y),
        holdout_start=holdout.start,
        holdout_end=holdout.end,
        confidence=resampling.confidence,
        challenger=bench.metrics("challenger"),
        champion=bench.metrics("champion") if champion else None,
        differences=bench.differences(),
        groups=bench.groups(),
        challenger_learnt_until=challenger.learnt_until,
        champion_version=champion.version if champion else None,
        champion_learnt_until=champion.learnt_until if champion else None,
        parity_flips=export.parity_flips,
        parity_max_difference=_finite(export.parity_max_difference),
        latency_ms_p99=_finite(export.latency_ms_p99),
        size_mb=_finite(export.size_mb),
        business_value=contract.business_value.name,
    )


def slice_labels(part: Slice, feature: Feature, values: Sequence[Any] | NDArray[Any]) -> NDArray[np.str_]:
    """The group of each row in a slice.

    Args:
        part: the slice, of `feature`.
        feature: its declaration.
        values: the feature's raw values (n_rows,), as in the contract and not encoded; None and NaN are missing.

    Returns:
        (n_rows,) the category, or the label of the bin; "missing" for what is missing, which a category that is not
        declared counts as; "outside" for a number in no bin.
    """
    if feature.type == "category":
        known = set(feature.values)
        return np.array([value if value in known else MISSING for value in values], dtype=np.str_)
    numbers = np.asarray(values, dtype=np.float64)
    names = np.array([OUTSIDE, *part.labels, OUTSIDE, MISSING], dtype=np.str_)
    position = np.searchsorted(np.asarray(part.bins), numbers, side="right")
    return names[np.where(np.isnan(numbers), len(names) - 1, position)]


def _check_lengths(holdout: Holdout, sides: Mapping[str, Contender]) -> None:
    arrays = {f"slice {name!r}": groups for name, groups in holdout.groups.items()}
    arrays |= {f"value of the {side}": contender.value for side, contender in sides.items()}
    for name, array in arrays.items():
        if np.shape(array) != np.shape(holdout.y):
            raise ValueError(f"{name} has shape {np.shape(array)}, the labels {np.shape(holdout.y)}")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True)
class _Key:
    """Which number of which model; `group` is a pair of slice and group, None for all rows."""

    side: str
    metric: str
    group: tuple[str, str] | None = None


class _Bench:
    """Every number of an evaluation, at its value and under the draws, read in one pass over the weights."""

    def __init__(
        self, contract: Contract, holdout: Holdout, sides: Mapping[str, Contender], resampling: Resampling
    ) -> None:
        self._contract, self._holdout, self._sides = contract, holdout, sides
        self._confidence = resampling.confidence
        self._rows = _group_rows(holdout.groups)
        read: dict[_Key, Measure] = {}
        for side, contender in sides.items():
            read |= self._measures(side, contender)
        row_count = len(holdout.y)
        once = np.ones((1, row_count))
        self._value = {key: float(measure(once)[0]) for key, measure in read.items()} if row_count else {}
        self._drawn = draws(read, row_count, resampling)

    def _measures(self, side: str, contender: Contender) -> dict[_Key, Measure]:
        task, metric, y = self._contract.task, self._contract.metric, np.asarray(self._holdout.y)
        prediction, value = np.asarray(contender.prediction), np.asarray(contender.value, dtype=np.float64)
        found = {_Key(side, name): measure for name, measure in metrics.measures(task, y, prediction).items()}
        if found:
            for group, rows in self._rows.items():
                measure = metrics.measures(task, y[rows], prediction[rows], only=(metric,))[metric]
                found[_Key(side, metric, group)] = _on(rows, measure)
        if np.isfinite(value).all():
            found[_Key(side, BUSINESS_VALUE)] = metrics.total(value)
        return found

    def metrics(self, side: str) -> dict[str, Interval]:
        """Every metric of one model that has a value on all rows."""
        keys = [key for key in self._value if key.side == side and key.group is None]
        found = {key.metric: interval(self._value[key], self._drawn[key], self._confidence) for key in keys}
        return {metric: measured for metric, measured in found.items() if measured}

    def differences(self) -> dict[str, Interval]:
        """Every metric that both models have."""
        names = [key.metric for key in self._value if key.side == "challenger" and key.group is None]
        found = {metric: self._difference(metric, None) for metric in names}
        return {metric: measured for metric, measured in found.items() if measured}

    def groups(self) -> tuple[GroupScore, ...]:
        """The primary metric by slice and group, in the order of the slices and of the groups' names."""
        metric = self._contract.metric
        return tuple(
            GroupScore(
                slice=group[0],
                group=group[1],
                rows=len(rows),
                challenger=self._of("challenger", group),
                champion=self._of("champion", group),
                difference=self._difference(metric, group),
            )
            for group, rows in self._rows.items()
        )

    def _of(self, side: str, group: tuple[str, str]) -> float | None:
        return _finite(self._value.get(_Key(side, self._contract.metric, group), np.nan))

    def _difference(self, metric: str, group: tuple[str, str] | None) -> Interval | None:
        new, old = _Key("challenger", metric, group), _Key("champion", metric, group)
        if new not in self._value or old not in self._value:
            return None
        value = goodness(metric, np.array([self._value[new], self._value[old]]))
        drawn = goodness(metric, self._drawn[new]) - goodness(metric, self._drawn[old])
        return interval(float(value[0] - value[1]), drawn, self._confidence)


def _group_rows(groups: Mapping[str, NDArray[Any]]) -> dict[tuple[str, str], NDArray[np.intp]]:
    return {
        (name, str(group)): np.flatnonzero(labels == group)
        for name, labels in groups.items()
        for group in np.unique(labels)
    }


def _on(rows: NDArray[np.intp], measure: Measure) -> Measure:
    return lambda weights: measure(weights[:, rows])
