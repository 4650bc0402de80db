"""Scoring: intervals that cover, differences that are paired, and nothing that is not a number."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from headrace.documents import read_json, write_json
from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows, Slice
from headrace.domain.metrics import BUSINESS_VALUE, measures, scores
from headrace.domain.resampling import Resampling, draws, interval
from headrace.domain.scoring import Contender, Evaluation, Export, Holdout, compare, slice_labels
from tests.unit.evaluations import AUGUST, JULY, sample

EXPORT = Export(parity_flips=0, parity_max_difference=1e-7, latency_ms_p99=1.0, size_mb=1.0)
FEW = Resampling(resamples=100)
PRIMARY = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}
TASKS = list(PRIMARY)
CARRIER = Feature("carrier", "category", "", values=("AA", "UA"), missing=True)


def contract(task: Any) -> Contract:
    return Contract(
        model="demo",
        description="",
        task=task,
        rows=Rows("rows", "dvc.yaml", "key", "decision_time"),
        label=Label("y", "", "t", LabelDelay(1, 2, 3), classes=("a", "b", "c") if task == "multiclass" else ()),
        features=(CARRIER,),
        metric=PRIMARY[task],
        business_value=BusinessValue("minutes caught", "min", ""),
        budgets=Budgets(5, 5),
        example={"carrier": "AA"},
    )


def contender(task: str, noise: float, count: int = 400, version: int | None = None) -> Contender:
    _, prediction = sample(task, count, noise)
    return Contender(prediction, np.full(count, 2.0 - noise), JULY, version)


def compared(task: str, champion: Contender | None, **changes: Any) -> Evaluation:
    y, _ = sample(task, 400)
    groups = {"carrier": np.where(np.arange(400) < 300, "UA", "AA"), "all": np.full(400, "every")}
    setup: dict[str, Any] = {"challenger": contender(task, 0.5), "resampling": FEW} | changes
    return compare(contract(task), Holdout(y, JULY, AUGUST, groups), champion=champion, export=EXPORT, **setup)


def test_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    y, prediction = sample("binary", 500)
    losses = (y - prediction) ** 2
    theirs = stats.bootstrap((losses,), np.mean, n_resamples=2000, method="percentile", random_state=0)
    measure = measures("binary", y, prediction)["brier"]
    ours = interval(losses.mean(), draws({"brier": measure}, 500, Resampling(resamples=2000))["brier"], 0.95)
    assert ours is not None
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.06 * width)


def test_interval_of_the_difference_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        first, second = random.normal(0, 1.0, 200), random.normal(0, 1.2, 200)
        zero = np.zeros(200)
        read = {name: measures("regression", zero, p)["rmse"] for name, p in (("a", first), ("b", second))}
        drawn = draws(read, 200, Resampling(resamples=200, seed=seed))
        found = interval(0.0, drawn["b"] - drawn["a"], 0.90)
        covered += found is not None and found.low <= 0.2 <= found.high
    # 90 % of 150 is 135 with a standard deviation of 3.7.
    assert 122 <= covered <= 148


def test_draws_without_a_value_are_left_out_until_they_are_too_many() -> None:
    drawn = np.linspace(0, 1, 100)
    few, many = drawn.copy(), drawn.copy()
    few[:4], many[:6] = np.nan, np.nan
    assert interval(0.5, few, 0.9) is not None
    assert interval(0.5, many, 0.9) is None
    assert interval(np.nan, drawn, 0.9) is None


@pytest.mark.parametrize("task", TASKS)
def test_better_model_has_positive_differences_whatever_the_metrics_direction(task: str) -> None:
    found = compared(task, contender(task, 2.0, version=3))
    assert found.differences[PRIMARY[task]].low > 0
    assert found.differences["brier" if task != "regression" else "mae"].low > 0
    assert found.differences[BUSINESS_VALUE].value == pytest.approx(400 * 1.5)
    assert found.champion_version == 3


@pytest.mark.parametrize("task", TASKS)
def test_model_compared_with_itself_differs_by_exactly_nothing(task: str) -> None:
    same = compared(task, contender(task, 0.5, version=3))
    assert {(d.low, d.value, d.high) for d in same.differences.values()} == {(0.0, 0.0, 0.0)}


def test_difference_is_paired_so_it_is_narrower_than_its_parts() -> None:
    challenger = contender("binary", 0.5)
    champion = replace(challenger, prediction=0.9 * challenger.prediction + 0.05, version=3)
    found = compared("binary", champion)
    assert found.champion is not None
    difference, champion = found.differences["brier"], found.champion["brier"]
    assert difference.high - difference.low < 0.6 * (champion.high - champion.low)


@pytest.mark.parametrize("task", TASKS)
def test_slice_of_all_rows_has_the_same_draws_as_the_holdout(task: str) -> None:
    found = compared(task, contender(task, 2.0, version=3))
    groups = {(group.slice, group.group): group for group in found.groups}
    everything = groups["all", "every"].difference
    assert everything is not None
    overall = found.differences[PRIMARY[task]]
    assert [everything.low, everything.value, everything.high] == pytest.approx(
        [overall.low, overall.value, overall.high]
    )
    assert groups["carrier", "UA"].rows == 300
    assert groups["carrier", "AA"].rows == 100


def test_equal_seeds_give_equal_evaluations() -> None:
    champion = contender("binary", 2.0, version=3)
    assert compared("binary", champion) == compared("binary", champion)
    other = compared("binary", champion, resampling=replace(FEW, seed=1))
    assert other.differences["auc"].value == compared("binary", champion).differences["auc"].value
    assert other != compared("binary", champion)


@pytest.mark.parametrize("task", TASKS)
def test_without_a_champion_nothing_is_compared(task: str) -> None:
    found = compared(task, None)
    assert found.champion is None
    assert found.differences == {}
    assert all(group.champion is None and group.difference is None for group in found.groups)
    assert set(found.challenger) == {*scores(task, *sample(task, 400, 0.5)), BUSINESS_VALUE}


def test_what_has_no_value_is_absent_and_the_rest_survives_json(tmp_path: Path) -> None:
    broken = contender("binary", 0.5)
    broken.prediction[7] = np.nan
    found = compared(
        "binary",
        replace(contender("binary", 2.0, version=3), value=np.full(400, np.nan)),
        challenger=broken,
    )
    assert set(found.challenger) == {BUSINESS_VALUE}
    assert found.champion is not None
    assert BUSINESS_VALUE not in found.champion
    assert found.differences == {}
    write_json(tmp_path / "evaluation.json", found)
    assert read_json(Evaluation, tmp_path / "evaluation.json") == found


def test_group_of_one_class_has_no_score(tmp_path: Path) -> None:
    y, prediction = sample("binary", 400)
    one_class = np.where(y == 1, "late", "early")
    holdout = Holdout(y, JULY, AUGUST, {"outcome": one_class})
    one = Contender(prediction, np.ones(400), JULY)
    found = compare(contract("binary"), holdout, one, replace(one, version=1), export=EXPORT, resampling=FEW)
    assert [(g.challenger, g.champion, g.difference) for g in found.groups] == [(None, None, None)] * 2
    write_json(tmp_path / "evaluation.json", found)
    assert read_json(Evaluation, tmp_path / "evaluation.json") == found


@pytest.mark.parametrize("task", TASKS)
def test_empty_holdout_gives_an_evaluation_without_metrics(task: str) -> None:
    empty = Contender(np.empty((0, 3)) if task == "multiclass" else np.empty(0), np.empty(0), JULY)
    found = compare(contract(task), Holdout(np.empty(0), JULY, AUGUST), empty, None, export=EXPORT, resampling=FEW)
    assert found.rows == 0
    assert found.challenger == {}


def test_measurements_that_are_not_finite_become_missing() -> None:
    export = Export(0, np.nan, np.inf, 1.0)
    holdout = Holdout(sample("binary", 400)[0], JULY, AUGUST)
    found = compare(contract("binary"), holdout, contender("binary", 1.0), None, export=export, resampling=FEW)
    assert (found.parity_max_difference, found.latency_ms_p99, found.size_mb) == (None, None, 1.0)


def test_arrays_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="value of the challenger"):
        compared("binary", None, challenger=replace(contender("binary", 1.0), value=np.ones(3)))


def test_month_of_flights_stays_within_its_memory() -> None:
    y, first = sample("binary", 28_000, 0.5)
    _, second = sample("binary", 28_000, 1.0)
    value = np.ones(28_000)
    sides = Contender(first, value, JULY), Contender(second, value, JULY, 1)
    tracemalloc.start()
    compare(contract("binary"), Holdout(y, JULY, AUGUST), *sides, export=EXPORT, resampling=Resampling(resamples=150))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


def test_category_slices_by_value_and_unknown_is_missing() -> None:
    labels = slice_labels(Slice("carrier"), CARRIER, ["AA", None, "UA", "ZZ", float("nan")])
    assert labels.tolist() == ["AA", "missing", "UA", "missing", "missing"]


def test_numbers_slice_by_half_open_bins() -> None:
    feature = Feature("minute", "int", "", range=(0, 1439), missing=True)
    part = Slice("minute", bins=(0, 360, 1440), labels=("night", "day"))
    labels = slice_labels(part, feature, [0, 359.9, 360, 1439, 1440, -1, None, np.nan])
    assert labels.tolist() == ["night", "night", "day", "day", "outside", "outside", "missing", "missing"]
