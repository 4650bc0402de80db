"""Export and parity, for every task and against a broken export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from headrace.documents import read_contract
from headrace.errors import HeadraceError
from headrace.learning.onnx_model import OnnxModel, estimator_predict, export, parity

BIKES = read_contract(Path(__file__).parents[2] / "models/bike_demand/contract.yaml")
BINARY = replace(BIKES, task="binary", metric="auc")
MULTICLASS = replace(BIKES, task="multiclass", metric="accuracy", label=replace(BIKES.label, classes=("a", "b", "c")))


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    rng = np.random.default_rng(0)
    made = rng.normal(size=(2000, len(BIKES.features))).astype(np.float32)
    made[rng.random(made.shape) < 0.05] = np.nan
    return made


@pytest.mark.parametrize(
    ("contract", "estimator", "bins"),
    [
        (BIKES, HistGradientBoostingRegressor(max_iter=30), None),
        (BINARY, HistGradientBoostingClassifier(max_iter=30), [0.0]),
        (MULTICLASS, HistGradientBoostingClassifier(max_iter=30), [-0.5, 0.5]),
    ],
    ids=["regression", "binary", "multiclass"],
)
def test_an_exported_model_decides_like_the_original(matrix: np.ndarray, contract, estimator, bins):
    y = np.nan_to_num(matrix[:, 0])
    estimator.fit(matrix, y if bins is None else np.digitize(y, bins))
    exported = OnnxModel(export(estimator, contract), contract.task).predict(matrix)
    flips, largest = parity(contract.task, estimator_predict(estimator, matrix, contract.task), exported)
    assert flips == 0
    assert largest < 1e-4


def test_a_lost_link_function_is_found(matrix: np.ndarray):
    """The converter drops the exponential of a Poisson loss: exactly what parity is there for."""
    estimator = HistGradientBoostingRegressor(loss="poisson", max_iter=30)
    estimator.fit(matrix, np.exp(np.nan_to_num(matrix[:, 0])))
    exported = OnnxModel(export(estimator, BIKES), "regression").predict(matrix)
    flips, _ = parity("regression", estimator_predict(estimator, matrix, "regression"), exported)
    assert flips > len(matrix) / 2


def test_a_prediction_that_is_not_a_number_differs():
    assert parity("regression", np.array([1.0]), np.array([np.nan]))[0] == 1


def test_an_estimator_that_cannot_be_exported_is_named(matrix: np.ndarray):
    class Unknown(BaseEstimator):
        pass

    with pytest.raises(HeadraceError, match="Unknown can't be converted"):
        export(Unknown(), BIKES)


def test_blocks_of_rows_give_what_all_rows_give(matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    estimator = HistGradientBoostingRegressor(max_iter=5).fit(matrix, np.nan_to_num(matrix[:, 0]))
    model = OnnxModel(export(estimator, BIKES), "regression")
    whole = model.predict(matrix)
    monkeypatch.setattr("headrace.learning.onnx_model._BLOCK", 7)
    assert np.array_equal(model.predict(matrix), whole)
