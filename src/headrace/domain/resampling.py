"""The paired percentile bootstrap: how far a number measured on a holdout could have come out otherwise.

Rows are drawn with replacement, as weights, and every model and slice is read under the same draws, so that what two
models have in common cancels in their difference (Efron & Tibshirani 1993, An Introduction to the Bootstrap,
chapter 13).
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from headrace.domain.metrics import Floats, Measure

_STRICT = {"extra": "forbid"}
# 16 MB of weights at a time: some five arrays of that size are alive while a metric is read.
_CELL_COUNT = 2_000_000
# With fewer draws that have a value, the percentiles would be those of the convenient draws only.
_MIN_FINITE_SHARE = 0.95

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A measured value and the percentile interval around it, in the metric's unit."""

    value: float
    low: float
    high: float

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Resampling:
    """How to draw.

    Attributes:
        confidence: share of the draws that an interval covers, 0 to 1.
        resamples: how many draws.
        seed: equal seeds give equal intervals.
    """

    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence {self.confidence} is not between 0 and 1")
        if self.resamples < 1:
            raise ValueError(f"resamples {self.resamples} must be at least 1")


def draws(measures: Mapping[K, Measure], row_count: int, plan: Resampling) -> dict[K, Floats]:
    """Read every measure under the same resampled rows.

    Args:
        measures: any name to a measure of `row_count` rows.
        row_count: rows of the holdout; with 0 every draw is NaN.
        plan: how many draws, and from which seed.

    Returns:
        Name to values (resamples,), aligned by draw; NaN where a draw has no value.
    """
    found = {name: np.full(plan.resamples, np.nan) for name in measures}
    done = 0
    for weights in _weights(row_count, plan):
        part = slice(done, done + len(weights))
        for name, read in measures.items():
            found[name][part] = read(weights)
        done += len(weights)
    return found


def _weights(row_count: int, plan: Resampling) -> Iterator[Floats]:
    """Chunks (n_draws, row_count) of how often each row was drawn; every draw adds up to `row_count`."""
    if row_count == 0:
        return
    random = np.random.default_rng(plan.seed)
    chunk = max(1, _CELL_COUNT // row_count)
    for start in range(0, plan.resamples, chunk):
        weights = np.empty((min(chunk, plan.resamples - start), row_count))
        for draw in weights:
            draw[:] = np.bincount(random.integers(0, row_count, row_count), minlength=row_count)
        yield weights


def interval(value: float, drawn: Floats, confidence: float) -> Interval | None:
    """The percentile interval of draws (n_draws,) around a value; None when it, or too many draws, have no value."""
    finite = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(finite) or len(finite) < _MIN_FINITE_SHARE * len(drawn):
        return None
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))
