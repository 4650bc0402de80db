"""Bounds of a share that hold at all looks together."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import betaln

from headrace.domain.sequences import Bounds, Tally, bounds, difference

ERRORS = st.floats(1e-8, 0.99)
_ROUNDING = 1e-9


@st.composite
def tallies(draw: st.DrawFn, least: float = 0.01) -> Tally:
    """Whole or fractional ones."""
    total = draw(st.one_of(st.integers(1, 10**7), st.floats(least, 1e4)))
    return Tally(draw(st.one_of(st.just(0), st.just(total), st.floats(0, 1).map(lambda share: share * total))), total)


def test_without_observations_nothing_is_ruled_out():
    assert bounds(Tally(0, 0), 0.01) == Bounds(0.0, 1.0)
    assert Tally(0, 0).share is None


def test_bounds_that_were_found_by_hand():
    # After a single hit the ratio is (1/2) / p, after two misses (3/8) / (1 - p)^2.
    assert bounds(Tally(1, 1), 0.05).low == pytest.approx(0.025)
    assert bounds(Tally(0, 2), 0.06).high == pytest.approx(0.85)


@pytest.mark.parametrize(("hits", "total"), [(7, 100), (1, 1000), (999, 1000), (0.3, 2.5), (40_000, 10**6)])
@pytest.mark.parametrize("error", [0.3, 0.01, 1e-5])
def test_bounds_are_the_shares_at_which_the_ratio_reaches_one_over_the_error(hits: float, total: float, error: float):
    misses = total - hits

    def beyond(share: float) -> float:
        ratio = betaln(hits + 0.5, misses + 0.5) - betaln(0.5, 0.5)
        return float(ratio - hits * math.log(share) - misses * math.log1p(-share) + math.log(error))

    found = bounds(Tally(hits, total), error)
    assert found.low == pytest.approx(brentq(beyond, 1e-300, hits / total, xtol=1e-15, rtol=1e-13), rel=1e-6)
    assert found.high == pytest.approx(brentq(beyond, hits / total, 1 - 1e-16, xtol=1e-15, rtol=1e-13), rel=1e-6)


@settings(deadline=None)
@given(tallies(), ERRORS)
def test_they_are_shares_around_the_estimate(seen: Tally, error: float):
    found = bounds(seen, error)
    assert seen.share is not None
    assert 0 <= found.low <= seen.share <= found.high <= 1


@settings(deadline=None)
@given(st.floats(1.0, 1e7), ERRORS)
def test_no_hit_never_rules_out_none_and_no_miss_never_rules_out_all(total: float, error: float):
    assert bounds(Tally(0, total), error).low == 0 < bounds(Tally(0, total), error).high < 1
    assert 0 < bounds(Tally(total, total), error).low < bounds(Tally(total, total), error).high == 1


@settings(deadline=None)
@given(tallies(), ERRORS, ERRORS)
def test_less_error_needs_wider_bounds(seen: Tally, one: float, other: float):
    wide, narrow = bounds(seen, min(one, other)), bounds(seen, max(one, other))
    assert wide.low <= narrow.low + _ROUNDING
    assert wide.high >= narrow.high - _ROUNDING


@settings(deadline=None)
@given(tallies(), ERRORS)
def test_hits_and_misses_are_alike(seen: Tally, error: float):
    found, turned = bounds(seen, error), bounds(Tally(seen.total - seen.hits, seen.total), error)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-7)


@settings(deadline=None)
@given(tallies(), ERRORS)
def test_a_hit_makes_both_bounds_higher_than_a_miss_does(seen: Tally, error: float):
    hit, miss = bounds(Tally(seen.hits + 1, seen.total + 1), error), bounds(Tally(seen.hits, seen.total + 1), error)
    assert miss.low <= hit.low + _ROUNDING
    assert miss.high <= hit.high + _ROUNDING


@settings(deadline=None)
@given(tallies(least=1.0), ERRORS)
def test_ten_times_the_evidence_tells_more(seen: Tally, error: float):
    few, many = bounds(seen, error), bounds(Tally(seen.hits * 10, seen.total * 10), error)
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(("hits", "total"), [(-1, 2), (3, 2), (math.nan, 2), (1, math.nan), (1, math.inf), (0, -1)])
def test_what_is_no_share_is_refused(hits: float, total: float):
    with pytest.raises(ValueError, match="is no share"):
        Tally(hits, total)


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.5, 1.0)], ids=["hits and misses", "hits in part"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_the_true_share_is_ever_ruled_out_no_more_often_than_the_error_with_a_look_at_every_observation(
    values: tuple[float, ...], share: float
):
    error, sequences = 0.2, 400
    found = cache(lambda hits, total: bounds(Tally(hits, total), error))
    draws = np.random.default_rng(7).binomial(len(values) - 1, share, (sequences, 500)) / (len(values) - 1)
    ruled_out = 0
    for hits in draws.cumsum(axis=1).tolist():
        every = (found(seen, total) for total, seen in enumerate(hits, start=1))
        ruled_out += any(not one.low <= share <= one.high for one in every)
    assert ruled_out <= error * sequences
    # Neither are they so wide that they say nothing.
    assert ruled_out > 0 or len(values) > 2


def test_differences_that_were_found_by_hand():
    assert difference(Tally(0, 0), Tally(0, 0), 0.05) == Bounds(-1.0, 1.0)
    # Of the second share only (1/2) / q < 1 / error is known.
    assert difference(Tally(0, 0), Tally(1, 1), 0.05).high == pytest.approx(1 - 0.025)
    # (1/2) / p and (1/2) / (1 - q) multiply to 1 / error: the least difference has p = 1 - q.
    assert difference(Tally(1, 1), Tally(0, 1), 0.04).low == pytest.approx(math.sqrt(0.04) - 1)


@pytest.mark.parametrize(
    ("new", "stable"),
    [
        (Tally(7, 100), Tally(30, 900)),
        (Tally(0, 50), Tally(3, 50)),
        (Tally(50, 50), Tally(2, 5000)),
        (Tally(0.4, 9), Tally(8, 9)),
    ],
)
@pytest.mark.parametrize("error", [0.3, 1e-4])
def test_bounds_of_a_difference_are_its_ends_among_all_pairs_that_are_not_ruled_out(
    new: Tally, stable: Tally, error: float
):
    def log_likelihood(seen: Tally, share: float) -> float:
        misses = seen.total - seen.hits
        return (seen.hits * math.log(share) if seen.hits else 0) + (misses * math.log1p(-share) if misses else 0)

    def beyond(apart: float) -> float:
        """How far from being possible the likeliest pair with this difference is."""
        least = sum(betaln(s.hits + 0.5, s.total - s.hits + 0.5) - betaln(0.5, 0.5) for s in (new, stable))
        ends = (max(0, -apart) + 1e-12, min(1, 1 - apart) - 1e-12)
        best = minimize_scalar(
            lambda share: -log_likelihood(new, share + apart) - log_likelihood(stable, share),
            bounds=ends,
            method="bounded",
            options={"xatol": 1e-12},
        )
        return float(least + math.log(error) + best.fun)

    found = difference(new, stable, error)
    for end, inwards in ((found.low, 1e-4), (found.high, -1e-4)):
        assert beyond(end + inwards) < 0
        assert abs(end - inwards) >= 1 or beyond(end - inwards) > 0


@settings(deadline=None)
@given(tallies(), tallies(), ERRORS, ERRORS)
def test_differences_are_around_the_estimate_alike_both_ways_and_wider_with_less_error(
    new: Tally, stable: Tally, one: float, other: float
):
    wide, narrow = difference(new, stable, min(one, other)), difference(new, stable, max(one, other))
    assert new.share is not None
    assert stable.share is not None
    assert -1 <= wide.low <= narrow.low + 1e-7
    assert 1 >= wide.high >= narrow.high - 1e-7
    assert narrow.low - _ROUNDING <= new.share - stable.share <= narrow.high + _ROUNDING
    turned = difference(stable, new, one)
    assert turned == Bounds(-difference(new, stable, one).high, -difference(new, stable, one).low)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_true_difference_is_ever_ruled_out_no_more_often_than_the_error(share: float):
    error, sequences = 0.2, 300
    draws = np.random.default_rng(11).binomial(1, share, (sequences, 2, 300)).cumsum(axis=2)[:, :, 2::3]
    found = cache(lambda new, stable, total: difference(Tally(new, total), Tally(stable, total), error))
    ruled_out = 0
    for new, stable in draws.tolist():
        every = (found(*seen, 3 * look) for look, seen in enumerate(zip(new, stable, strict=True), start=1))
        ruled_out += any(not one.low <= 0 <= one.high for one in every)
    assert 0 < ruled_out <= error * sequences
