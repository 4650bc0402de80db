"""Metrics: as others compute them, for any weights, and no value where there is none."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from headrace.domain.metrics import goodness, losses, measures, scores
from tests.unit.evaluations import sample


def test_binary_metrics_equal_scikit_learns_for_any_weights() -> None:
    y, prediction = sample("binary", 300)
    weights = np.random.default_rng(1).integers(0, 4, (5, 300)).astype(float)
    found = {name: measure(weights) for name, measure in measures("binary", y, prediction).items()}
    theirs = {
        "auc": reference.roc_auc_score,
        "average_precision": reference.average_precision_score,
        "log_loss": reference.log_loss,
        "brier": reference.brier_score_loss,
    }
    for name, score in theirs.items():
        np.testing.assert_allclose(found[name], [score(y, prediction, sample_weight=w) for w in weights], err_msg=name)
    np.testing.assert_allclose(found["calibration_gap"], weights @ (prediction - y) / weights.sum(axis=1))


def test_multiclass_metrics_equal_scikit_learns() -> None:
    y, prediction = sample("multiclass", 300)
    found = scores("multiclass", y, prediction)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(y, prediction.argmax(axis=1)))
    assert found["log_loss"] == pytest.approx(reference.log_loss(y, prediction))
    assert found["brier"] == pytest.approx(np.mean(np.sum((prediction - np.eye(3)[y]) ** 2, axis=1)))


def test_regression_metrics_equal_scikit_learns() -> None:
    y, prediction = sample("regression", 300)
    found = scores("regression", y, prediction)
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(y, prediction))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(y, prediction))
    assert found["bias_share"] == pytest.approx((prediction.mean() - y.mean()) / y.mean())


@given(rows=st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[bool, int, int]]) -> None:
    pairs = [
        (w_1 * w_0, 1.0 if p_1 > p_0 else 0.5 if p_1 == p_0 else 0.0)
        for y_1, p_1, w_1 in rows
        for y_0, p_0, w_0 in rows
        if y_1 and not y_0
    ]
    total = sum(weight for weight, _ in pairs)
    y, ranks, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = measures("binary", y, ranks / 5)["auc"](weights[None, :])[0]
    if total == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(sum(weight * won for weight, won in pairs) / total)


def test_calibration_error_is_the_mean_gap_of_equally_large_bins() -> None:
    prediction = np.repeat(np.arange(10) / 10 + 0.05, 20)
    y = (np.tile(np.arange(20), 10) < 20 * np.repeat(np.arange(10) / 10, 20)).astype(int)
    assert scores("binary", y, prediction)["calibration_error"] == pytest.approx(0.05)


def test_calibration_error_of_a_constant_is_its_gap() -> None:
    y = np.array([0, 0, 0, 1])
    assert scores("binary", y, np.full(4, 0.5))["calibration_error"] == pytest.approx(0.25)
    assert scores("regression", y + 1.0, np.full(4, 2.5))["calibration_error"] == pytest.approx(1.0)


def test_one_class_has_no_auc_but_a_brier_score() -> None:
    found = scores("binary", np.zeros(50), np.linspace(0, 1, 50))
    assert "auc" not in found
    assert "average_precision" not in found
    assert found["brier"] > 0


def test_sure_and_wrong_answer_has_a_finite_log_loss() -> None:
    assert np.isfinite(scores("binary", [1, 0], [0.0, 1.0])["log_loss"])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.2, -0.1])
def test_model_with_an_impossible_prediction_has_no_score(wrong: float) -> None:
    assert scores("binary", [0, 1, 1], [0.2, 0.7, wrong]) == {}
    assert scores("multiclass", [0, 1], [[0.5, 0.5, 0.0], [0.5, 0.5, wrong]]) == {}


@pytest.mark.parametrize(
    ("task", "y", "prediction"),
    [
        ("binary", [0, 2], [0.1, 0.2]),
        ("binary", [0, 1], [0.1]),
        ("binary", [0, np.nan], [0.1, 0.2]),
        ("binary", [0, 1], [[0.9, 0.1], [0.2, 0.8]]),
        ("multiclass", [0, 3], [[1, 0, 0], [0, 1, 0]]),
        ("regression", [0, np.inf], [0.1, 0.2]),
    ],
)
def test_labels_that_cannot_be_scored_are_an_error(task: Any, y: Any, prediction: Any) -> None:
    with pytest.raises(ValueError, match=r"label"):
        scores(task, y, prediction)


def test_every_metric_knows_its_better_direction() -> None:
    worse_then_better = {
        "auc": (0.6, 0.7),
        "rmse": (70.0, 60.0),
        "calibration_gap": (-0.2, 0.1),
        "bias_share": (0.2, -0.1),
    }
    for metric, pair in worse_then_better.items():
        worse, better = goodness(metric, np.array(pair))
        assert better > worse, metric
    for task in ("binary", "multiclass", "regression"):
        for metric in scores(task, *sample(task, 50)):
            goodness(metric, np.zeros(1))
    with pytest.raises(ValueError, match="'lift' is none of"):
        goodness("lift", np.zeros(1))


def test_losses_are_brier_scores_row_by_row_within_0_and_1() -> None:
    y, prediction = sample("binary", 300)
    assert losses("binary", y, prediction).mean() == pytest.approx(scores("binary", y, prediction)["brier"])
    y, prediction = sample("multiclass", 300)
    found = losses("multiclass", y, prediction)
    assert found.mean() == pytest.approx(scores("multiclass", y, prediction)["brier"] / 2)
    assert losses("multiclass", [0, 0, 0], np.eye(3)).tolist() == [0.0, 1.0, 1.0]
    assert losses("binary", [0, 1, 1], [0.0, 1.0, 0.0]).tolist() == [0.0, 0.0, 1.0]


def test_losses_of_numbers_are_errors_as_shares_of_the_span_and_no_row_counts_for_more_than_one() -> None:
    assert losses("regression", [10.0, 10.0, 10.0, 10.0], [10.0, 15.0, 5.0, 1e9], 20.0).tolist() == [
        0.0,
        0.25,
        0.25,
        1.0,
    ]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_is_as_wrong_as_can_be(odd: float) -> None:
    assert losses("binary", [0, 1], [odd, 1.0]).tolist() == [1.0, 0.0]
    assert losses("regression", [0.0, 1.0], [odd, 1.0], 1.0).tolist() == [1.0, 0.0]
    assert losses("multiclass", [0, 1], [[odd, 0.5], [0.0, 1.0]]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("span", [None, 0.0, -1.0, float("nan")])
def test_a_regression_needs_a_span_to_measure_errors_by(span: float | None) -> None:
    with pytest.raises(ValueError, match=f"span of {span}"):
        losses("regression", [1.0], [1.0], span)
