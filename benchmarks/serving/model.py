"""The one model that every server answers with, the rows that are asked about, and the predictions that are right.

A gradient boosting of scikit-learn with its default settings, trained here on made-up parcels. Nothing is drawn at
random when it is used: the same seed gives the same model and the same rows everywhere.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from headrace.documents import write_json
from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows
from headrace.domain.encoding import Matrix, encode
from headrace.learning import onnx_model

NAME = "parcel_delay"
# Up to so many rows scikit-learn does not stop early by default: the model has its full hundred trees.
TRAINING_ROWS = 10_000
GOLDEN_ROWS = 50
BODIES = 64
ROW_COUNTS = (1, 100)
# Float32 sums of a hundred trees beside float64 ones.
TOLERANCE = 1e-5
_MISSING_SHARE = 0.05

# name, unit, lowest, highest value
_FLOATS = (
    ("distance_road", "km", 0.5, 1800.0),
    ("distance_air", "km", 0.4, 1500.0),
    ("weight", "kg", 0.05, 31.5),
    ("volume", "l", 0.1, 300.0),
    ("declared_value", "EUR", 0.0, 5000.0),
    ("temperature_origin", "°C", -25.0, 40.0),
    ("temperature_destination", "°C", -25.0, 40.0),
    ("wind_origin", "m/s", 0.0, 35.0),
    ("wind_destination", "m/s", 0.0, 35.0),
    ("rain_origin", "mm/h", 0.0, 30.0),
    ("rain_destination", "mm/h", 0.0, 30.0),
    ("snow_on_route", "cm", 0.0, 80.0),
    ("depot_load", "", 0.0, 1.5),
    ("hub_load", "", 0.0, 1.5),
    ("carrier_on_time_7d", "", 0.0, 1.0),
    ("carrier_on_time_28d", "", 0.0, 1.0),
    ("route_delay_mean_7d", "h", -4.0, 72.0),
    ("route_delay_mean_28d", "h", -4.0, 72.0),
    ("traffic_index", "", 0.0, 10.0),
    ("handover_hour", "h", 0.0, 24.0),
    ("hours_to_promise", "h", 4.0, 160.0),
    ("population_density", "1/km²", 1.0, 21000.0),
)
_INTS = (
    ("stops_planned", "", 1, 12),
    ("day_of_week", "", 0, 6),
    ("parcels_in_order", "", 1, 40),
    ("customer_age_days", "d", 0, 5000),
    ("floor_number", "", 0, 40),
)
_OPTIONAL = (
    ("last_delay", "h", -4.0, 72.0),
    ("driver_experience", "a", 0.0, 40.0),
    ("battery_range_left", "km", 0.0, 400.0),
)


@dataclass(frozen=True)
class Material:
    """What is sent, and what has to be answered.

    Attributes:
        directory: holds `estimator.joblib`, `model.onnx` and `headrace/`, a model directory of the service.
        rows: rows a request to BODIES lists of rows.
        expected: the same to probabilities (BODIES, rows), by scikit-learn.
    """

    directory: Path
    contract: Contract
    rows: dict[int, list[list[dict[str, Any]]]]
    expected: dict[int, NDArray[np.float64]]

    def matrix(self, rows: list[dict[str, Any]]) -> Matrix:
        """Rows (n_rows, n_features) as the model takes them; missing is NaN."""
        return _matrix(self.contract, rows)


def contract() -> Contract:
    """The contract: thirty features, most of them floats, three of them optional."""
    floats = [Feature(name, "float", "Made up.", unit, (low, high)) for name, unit, low, high in _FLOATS]
    ints = [Feature(name, "int", "Made up.", unit, (low, high)) for name, unit, low, high in _INTS]
    optional = [Feature(name, "float", "Made up.", u, (low, high), missing=True) for name, u, low, high in _OPTIONAL]
    features = (*floats, *ints, *optional)
    return Contract(
        model=NAME,
        description="Whether a parcel arrives late. Made up for the benchmark.",
        task="binary",
        rows=Rows("rows", "stage", "parcel_id", "decided_at"),
        label=Label("late", "Arrives later than promised", "known_at", LabelDelay(4, 24, 96)),
        features=features,
        metric="auc",
        business_value=BusinessValue("caught", "parcels", "Late parcels caught."),
        budgets=Budgets(5.0, 5.0),
        example=make_rows(features, 1, seed=0)[0],
    )


def make_rows(features: tuple[Feature, ...], count: int, seed: int, decimals: int = 4) -> list[dict[str, Any]]:
    """Valid rows. Floats are rounded, as they are after a feature job."""
    random = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {}
    for feature in features:
        low, high = feature.range or (0.0, 1.0)
        if feature.type == "int":
            columns[feature.name] = random.integers(int(low), int(high), count, endpoint=True).tolist()
            continue
        # Squared, so that small values are common and large ones rare, as in most real columns.
        values = np.round(low + (high - low) * random.random(count) ** 2, decimals)
        lost = random.random(count) < (_MISSING_SHARE if feature.missing else 0.0)
        columns[feature.name] = [None if gone else value for gone, value in zip(lost, values.tolist(), strict=True)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def prepare(directory: Path) -> Material:
    """Train the model, write it in every form that a server reads, and make the rows.

    Raises:
        AssertionError: the exported model does not answer as the trained one.
    """
    agreed = contract()
    estimator = _train(agreed)
    directory.mkdir(parents=True, exist_ok=True)
    joblib.dump(estimator, directory / "estimator.joblib")
    exported = onnx_model.export(estimator, agreed)
    (directory / "model.onnx").write_bytes(exported)
    rows = {n: [make_rows(agreed.features, n, seed=1000 * n + i) for i in range(BODIES)] for n in ROW_COUNTS}
    expected = {n: np.array([_predict(estimator, agreed, body) for body in rows[n]]) for n in ROW_COUNTS}
    session = onnx_model.OnnxModel(exported, agreed.task)
    for n in ROW_COUNTS:
        found = np.array([session.predict(_matrix(agreed, body)) for body in rows[n]])
        assert np.abs(found - expected[n]).max() <= TOLERANCE, "the exported model answers other than the trained one"
    golden = make_rows(agreed.features, GOLDEN_ROWS, seed=2)
    write_model_directory(directory / "headrace", agreed, exported, golden, _predict(estimator, agreed, golden))
    return Material(directory, agreed, rows, expected)


def write_model_directory(
    directory: Path,
    agreed: Contract,
    exported: bytes,
    golden: list[dict[str, Any]],
    predictions: NDArray[np.float64],
    version: int = 1,
) -> None:
    """Write a model directory as the pipeline does: contract, model, golden predictions, and their digests."""
    directory.mkdir(exist_ok=True)
    (directory / "model.onnx").write_bytes(exported)
    write_json(directory / "contract.json", agreed)
    document = {"rows": golden, "predictions": predictions.tolist(), "tolerance": TOLERANCE}
    write_json(directory / "golden.json", document)
    names = ("contract.json", "golden.json", "model.onnx")
    files = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}
    manifest = {"schema_version": 1, "model": agreed.model, "version": version, "files": files}
    (directory / "manifest.json").write_text(json.dumps(manifest))


def _train(agreed: Contract) -> Any:
    # Not rounded: on a grid the trees' thresholds would be values that are asked about, and then float32 and float64
    # may take different branches.
    matrix = _matrix(agreed, make_rows(agreed.features, TRAINING_ROWS, seed=1, decimals=15))
    at = {name: i for i, name in enumerate(agreed.feature_names)}
    late = (
        0.004 * matrix[:, at["distance_road"]]
        + 2.0 * matrix[:, at["depot_load"]] * matrix[:, at["hub_load"]]
        + 0.05 * np.nan_to_num(matrix[:, at["last_delay"]])
        + 0.03 * matrix[:, at["snow_on_route"]]
        - 3.0 * matrix[:, at["carrier_on_time_7d"]]
        + 0.3 * np.maximum(matrix[:, at["traffic_index"]] - 4.0, 0.0)
        + 0.2 * (matrix[:, at["day_of_week"]] >= 5)
    )
    noise = np.random.default_rng(3).normal(0.0, 1.0, len(matrix))
    return HistGradientBoostingClassifier(random_state=0).fit(matrix, (late + noise > np.median(late)).astype(int))


def _predict(estimator: Any, agreed: Contract, rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    return onnx_model.estimator_predict(estimator, _matrix(agreed, rows), agreed.task)


def _matrix(agreed: Contract, rows: list[dict[str, Any]]) -> Matrix:
    return encode(agreed, {name: [row[name] for row in rows] for name in agreed.feature_names})
