"""Counting in bulk is counting one by one; versions that are gone leave nothing behind."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace import telemetry
from serving.loading import load
from serving.metrics import Families, Metrics, observe, score_bounds
from serving.model import LoadedModel

BOUNDS = (-1.5, 0.0, 0.1, 0.25, 1.0)
EDGES = [*BOUNDS, *(np.nextafter(bound, side) for bound in BOUNDS for side in (-np.inf, np.inf))]
VALUES = st.one_of(
    st.floats(-3, 3),
    st.sampled_from([float(edge) for edge in EDGES]),
    st.sampled_from([-0.0, 1e300, -1e300, math.inf, -math.inf, math.nan]),
)


def histogram(values: list[float], in_bulk: bool, kind: type) -> tuple[list[float], float]:
    """What each bucket holds, and the sum."""
    made = Histogram("values", "", buckets=BOUNDS, registry=CollectorRegistry())
    if in_bulk:
        observe(made, np.array(values, dtype=kind))
    else:
        for value in np.array(values, dtype=kind).tolist():
            made.observe(value)
    return [bucket.get() for bucket in made._buckets], made._sum.get()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_observing_in_bulk_equals_observing_each(kind: type) -> None:
    @given(st.lists(VALUES, max_size=40))
    def compare(values: list[float]) -> None:
        (buckets, total), (expected, sum_of_each) = histogram(values, True, kind), histogram(values, False, kind)
        assert buckets == expected
        # The order of the additions is another: what cancels out may leave a rounding of the largest.
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        assert total == pytest.approx(sum_of_each, rel=1e-12, abs=1e-12 * largest, nan_ok=True)

    compare()


def series(families: Families) -> list[str]:
    lines = generate_latest(families.registry).decode().splitlines()
    return [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def models(directories: dict[str, Path]) -> dict[str, LoadedModel]:
    return {task: load(directory) for task, directory in directories.items()}


def use_everything(families: Families, model: LoadedModel) -> None:
    metrics = Metrics(model, families)
    metrics.answered({200: 3, 400: 1, 503: 1}, [0.1] * 5)
    width = len(model.contract.features)
    metrics.predicted(np.full((3, width), 1e9, dtype=np.float32), np.array([0.1, 0.5, 0.9], dtype=np.float32))
    metrics.completed({("a_view", "absent"): 2}, {})
    metrics.nonfinite(1)
    metrics.ready(True)


def test_forgotten_version_leaves_no_series_and_takes_no_other_along(models: dict[str, LoadedModel]) -> None:
    families = Families()
    use_everything(families, models["binary"])
    families.labels.labels("flight_delay").inc()
    before = series(families)
    names = {family.split("{")[0] for family in before if 'version="3"' in family}
    by_release = {name for name, labels in telemetry.LABELS.items() if labels[:2] == telemetry.RELEASE_LABELS}
    # Whatever is labelled with a version is made above, but for ages, which a view makes.
    assert {name for name in by_release if any(one.startswith(name) for one in names)} == by_release - {
        telemetry.FEATURE_AGE
    }
    # 33 begins like 3.
    for version in (4, 33):
        use_everything(families, replace(models["binary"], version=version))
    families.forget("flight_delay", 4)
    families.forget("flight_delay", 33)
    families.forget("flight_delay", 5)
    assert series(families) == before
    use_everything(families, replace(models["binary"], version=4))
    assert len(series(families)) > len(before)


def test_swaps_do_not_make_series_for_ever(models: dict[str, LoadedModel]) -> None:
    families = Families()
    lengths = set()
    for version in range(1, 20):
        use_everything(families, replace(models["regression"], version=version, golden_span=(0.0, version)))
        families.forget("flight_delay", version - 1)
        lengths.add(len(series(families)))
    assert len(lengths) == 1


def test_versions_whose_scores_have_other_bounds_are_one_metric(models: dict[str, LoadedModel]) -> None:
    families = Families()
    for version in (3, 4):
        # The next one is there before the one before it is gone, and may never be put in its place.
        model = replace(models["regression"], version=version, golden_span=(0.0, float(version)))
        Metrics(model, families).predicted(
            np.zeros((1, len(model.contract.features)), np.float32), np.ones(1, np.float32)
        )
    text = families.exposition().decode()
    (scores,) = [one for one in text_string_to_metric_families(text) if one.name == telemetry.SCORE]
    assert text.count(f"# TYPE {telemetry.SCORE} ") == 1
    samples = {(one.labels["version"], one.labels["le"]): one.value for one in scores.samples if "le" in one.labels}
    assert {version: samples[version, "+Inf"] for version in ("3", "4")} == {"3": 1, "4": 1}
    bounds = [{float(le) for version, le in samples if version == wanted} for wanted in ("3", "4")]
    assert [max(found - {math.inf}) for found in bounds] == pytest.approx([3.0 * 19 / 18, 4.0 * 19 / 18], rel=1e-5)
    families.forget("flight_delay", 3)
    assert [one._kwargs["buckets"] for one in families._scores.histograms()] == [score_bounds(model)]


@pytest.mark.parametrize(
    "span", [(0.0, 1.0), (5.0, 5.0), (1e9, 1e9), (1e9, 1e9 + 2), (-1e-30, 1e-30), (-3e38, 3e38), (0.0, 5e-324)]
)
def test_bounds_of_scores_differ_and_ascend(models: dict[str, LoadedModel], span: tuple[float, float]) -> None:
    bounds = score_bounds(replace(models["regression"], golden_span=span))
    assert all(math.isfinite(bound) for bound in bounds)
    assert list(bounds) == sorted(set(bounds))
    assert bounds[-1] >= span[1] * (1 - 1e-5) - 1e-30
    Families().score(bounds, ("m", "1"))
    for task in ("binary", "multiclass"):
        assert score_bounds(models[task]) == tuple(round(0.05 * step, 2) for step in range(1, 21))


def test_values_outside_their_range_are_counted_and_its_ends_are_inside(models: dict[str, LoadedModel]) -> None:
    families = Families()
    model = models["binary"]
    metrics = Metrics(model, families)
    rows = np.array([[60, 50, 0, 0, np.nan, np.nan], [60.01, 49, 2, 1, -61, 1]], dtype=np.float32)
    metrics.predicted(rows, np.array([0.0, 1.0], dtype=np.float32))
    outside = {
        feature.name: families.out_of_range.labels("flight_delay", "3", feature.name)._value.get()
        for feature in model.contract.features
    }
    assert outside == {
        "wind_speed": 1,
        "distance": 1,
        "carrier": 0,
        "is_holiday": 0,
        "recent_delay": 1,
        "gate": 0,
    }
