"""Confidence sequences for a share: bounds that hold at all looks together, so that looking often costs nothing.

A share p is tested by the mixture of all alternatives with the arcsine prior, whose likelihood ratio after s hits and
f misses is B(s + 1/2, f + 1/2) / B(1/2, 1/2) / (p^s (1 - p)^f). For the true p that is a martingale which starts at 1,
so by Ville's inequality (1939) it ever reaches 1 / error with a chance of at most `error`. The shares at which it has
not are the bounds (Robbins 1970, Statistical methods related to the law of the iterated logarithm; Howard, Ramdas,
McAuliffe and Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence sequences). For two shares the
product of their ratios is such a martingale too: bounds of the difference are the least and the greatest among the
pairs that are not ruled out.

What it takes for granted: within one window each observation hits with the same chance, whatever came before it. An
observation may also hit in part, by a number between 0 and 1 with mean p: the likelihood ratio is convex in it, so its
mean is at most what it is for hits and misses.
"""

import math
from dataclasses import dataclass

_STRICT = {"extra": "forbid"}
_STEPS = 100
_PRECISION = 1e-8
_LEAST_LOG_ODDS = -700.0
_MOST_LOG_SLOPE = 300.0
_NO_HIT = 1e-12


@dataclass(frozen=True)
class Tally:
    """How often something was seen, of how many; as floats, since observations that hang together count for less."""

    hits: float
    total: float

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.total < math.inf:
            raise ValueError(f"{self.hits} of {self.total} is no share")

    @property
    def share(self) -> float | None:
        """None while nothing was observed."""
        return self.hits / self.total if self.total else None


@dataclass(frozen=True)
class Bounds:
    """A range of shares, or of differences of shares; both ends are included."""

    low: float
    high: float

    __pydantic_config__ = _STRICT


def bounds(seen: Tally, error: float) -> Bounds:
    """The shares that are not ruled out yet; the true one is ever ruled out with a chance of at most `error`.

    Args:
        seen: all observations since the sequence began.
        error: above 0 and below 1.
    """
    if not seen.total:
        return Bounds(0.0, 1.0)
    hits, misses, least = seen.hits, seen.total - seen.hits, _mixture(seen) + math.log(error)
    return Bounds(_lower(hits, misses, least), 1 - _lower(misses, hits, least))


def difference(new: Tally, stable: Tally, error: float) -> Bounds:
    """By how much the share of `new` may be above that of `stable`; ever wrong with a chance of at most `error`.

    Args:
        new: all observations since the sequence began.
        stable: those of the other share since then.
        error: above 0 and below 1.
    """
    least = _mixture(new) + _mixture(stable) + math.log(error)
    return Bounds(_least_difference(new, stable, least), -_least_difference(stable, new, least))


def _mixture(seen: Tally) -> float:
    """The logarithm of the chance of what was seen, with all alternatives mixed."""
    return _log_beta(seen.hits + 0.5, seen.total - seen.hits + 0.5) - _log_beta(0.5, 0.5)


def _least_difference(one: Tally, other: Tally, least: float) -> float:
    """The least difference of two shares whose joint log-likelihood is not below `least`.

    There the slope of the first log-likelihood is the other's, turned round: every slope gives such a pair of shares.
    The joint log-likelihood is concave in the slope's logarithm, and Newton's method finds it, in the end from outside.
    """
    hits, misses = one.hits, other.total - other.hits
    most = max(hits, misses)
    if most < _NO_HIT:
        return -1.0
    # With this slope already one of both is too unlikely.
    farthest = min(math.log(2 * most) - least / most, _MOST_LOG_SLOPE)
    _, spread, best = _both(0.0, hits, one.total, misses, other.total)
    # Twice what it would be if the log-likelihood were a parabola.
    log_slope = min(farthest, math.log(4 * (best - least) / spread) / 2) if spread else farthest
    for _ in range(_STEPS):
        slope = math.exp(log_slope)
        found, width, likelihood = _both(slope, hits, one.total, misses, other.total)
        step = (least - likelihood) / (slope * slope * width) if width else log_slope - farthest
        if abs(step) <= _PRECISION or log_slope - step > farthest == log_slope:
            break
        log_slope = min(log_slope - step, farthest)
    return found - 1


def _both(slope: float, hits: float, total: float, others: float, other_total: float) -> tuple[float, float, float]:
    share, width, likelihood = _at_slope(slope, hits, total)
    other, other_width, other_likelihood = _at_slope(slope, others, other_total)
    return share + other, width + other_width, likelihood + other_likelihood


def _at_slope(slope: float, hits: float, total: float) -> tuple[float, float, float]:
    """Where a log-likelihood has this slope: the share, by how much it falls as the slope grows, the log-likelihood."""
    if hits < _NO_HIT:
        return 0.0, 0.0, 0.0
    misses = total - hits
    root = math.sqrt((total - slope) ** 2 + 4 * slope * misses)
    share = min(2 * hits / (total + slope + root), hits / total)
    likelihood = hits * math.log(share)
    if misses:
        likelihood += misses * math.log1p(-share)
    return share, share * (1 - share) / root if root else 0.0, likelihood


def _lower(hits: float, misses: float, least: float) -> float:
    """The greatest share below the estimate whose log-likelihood is not above `least`.

    By Newton's method in log-odds, where the log-likelihood is concave: from outside it never steps across the border.
    """
    if not hits:
        return 0.0
    total, odds, share = hits + misses, least / hits, 0.0
    for _ in range(_STEPS):
        if odds < _LEAST_LOG_ODDS:
            return 0.0
        share = math.exp(odds) / (1 + math.exp(odds))
        step = (least - hits * odds + total * math.log1p(math.exp(odds))) / (hits - total * share)
        if not step > _PRECISION:
            break
        odds += step
    return share


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
