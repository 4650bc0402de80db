"""How far the scores of two versions may lie apart: not at all, beyond a tolerance and what the holdout shows.

A version that was trained anew gives most rows a somewhat other score. Where clients send many alike, as at night, all
of them may cross the end of a bucket together. So shares of rows are compared across a tolerance: those that one
version scores up to `end`, with those that the other scores up to `end` + tolerance.
"""

from collections.abc import Iterable, Mapping, Sequence

_ROUNDING = 1e-9


def across(ends: Iterable[float], tolerance: float) -> dict[float, float]:
    """The end of each bucket to the first end that is higher by the tolerance; the last ones have none."""
    ordered = sorted(ends)
    found = {end: next((far for far in ordered if far >= end + tolerance - _ROUNDING), None) for end in ordered}
    return {end: far for end, far in found.items() if far is not None}


def expected_shifts(
    new: Sequence[float], stable: Sequence[float], ends: Iterable[float], tolerance: float
) -> Mapping[float, float]:
    """What two versions' scores for the same rows say of each end.

    Returns:
        End to the share of rows that the new version has more up to there than the stable one across the tolerance;
        below 0 where it has more above: minus that share. 0 where it has neither.
    """
    return {
        end: max(_up_to(new, end) - _up_to(stable, far), 0.0) - max(_up_to(stable, end) - _up_to(new, far), 0.0)
        for end, far in across(ends, tolerance).items()
    }


def _up_to(scores: Sequence[float], end: float) -> float:
    return sum(score <= end for score in scores) / len(scores)
