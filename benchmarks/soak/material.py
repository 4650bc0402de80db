"""A contract with views, two versions of two models for it, and an online store with values."""

import hashlib
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from headrace.documents import write_json
from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, FeatureView, Label, LabelDelay, Rows
from headrace.domain.encoding import Matrix, encode
from headrace.learning import onnx_model

PAIR, SINGLE = "pair", "single"
MODELS = (PAIR, SINGLE)
DIRECTORIES = {"a": 1, "b": 101}
"""The versions that a release is swapped between: name of the directory to version. `b` is another estimator."""
PAIRED_VERSION = 2
"""Version of the release that is killed. It is the same estimator as `a`."""
TOLERANCE = 1e-5
_VIEWS = {"depots": "depot", "vans": "van"}
_CATEGORIES = ("north", "east", "south", "west")


def contract(model: str) -> Contract:
    """Twenty features that are sent, and ten of two views that may be looked up."""
    sent = [Feature(f"x{i}", "float", "", range=(-10, 10), missing=i % 4 == 0) for i in range(14)]
    sent += [Feature(f"n{i}", "int", "", range=(0, 1000)) for i in range(3)]
    sent += [Feature("side", "category", "", values=_CATEGORIES), Feature("is_late", "bool", "")]
    sent += [Feature("window", "category", "", values=_CATEGORIES, missing=True)]
    views = [
        Feature(f"{view}_{i}", "float", "", range=(-10, 10), default=0.5, view=view)
        for view in _VIEWS
        for i in range(5)
    ]
    return Contract(
        model=model,
        description="Whether a parcel arrives late.",
        task="binary",
        rows=Rows("rows", "stage", "parcel", "decided_at"),
        label=Label("late", "It arrives late.", "known_at", LabelDelay(1, 2, 3)),
        features=(*sent, *views),
        metric="auc",
        business_value=BusinessValue("caught", "parcels", ""),
        budgets=Budgets(5, 5),
        example={feature.name: None for feature in (*sent, *views)},
        views={view: FeatureView(entity, "x.parquet", "at", max_age_h=24) for view, entity in _VIEWS.items()},
    )


def make_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Complete rows, some with missing values."""
    random = np.random.default_rng(seed)
    return [{f.name: _value(f, random) for f in contract(PAIR).features} for _ in range(count)]


def _value(feature: Feature, random: np.random.Generator) -> Any:
    if feature.missing and random.random() < 0.1:
        return None
    if feature.type == "category":
        return str(random.choice(feature.values))
    if feature.type == "bool":
        return bool(random.random() < 0.5)
    assert feature.range is not None
    if feature.type == "int":
        return int(random.integers(*feature.range))
    return float(random.uniform(*feature.range))


class Estimator:
    """What the service has to answer."""

    def __init__(self, seed: int) -> None:
        self._contract = contract(PAIR)
        matrix = matrix_of(make_rows(2000, seed))
        score = np.nan_to_num(matrix[:, 0]) + matrix[:, 20] + np.random.default_rng(seed).normal(0, 3, len(matrix))
        self._fitted = HistGradientBoostingClassifier(max_iter=40, random_state=0).fit(matrix, score > 0)

    def predict(self, rows: list[dict[str, Any]]) -> NDArray[np.float64]:
        """Probabilities (n_rows,)."""
        return onnx_model.estimator_predict(self._fitted, matrix_of(rows), "binary")

    def write(self, directory: Path, model: str, version: int) -> Path:
        """Make the model directory of a version."""
        directory.mkdir(parents=True)
        golden = make_rows(20, seed=9)
        (directory / "model.onnx").write_bytes(onnx_model.export(self._fitted, self._contract))
        write_json(directory / "contract.json", contract(model))
        predictions = self.predict(golden).tolist()
        write_json(directory / "golden.json", {"rows": golden, "predictions": predictions, "tolerance": TOLERANCE})
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
        manifest = {"schema_version": 1, "model": model, "version": version, "files": files}
        (directory / "manifest.json").write_text(json.dumps(manifest))
        return directory


def matrix_of(rows: list[dict[str, Any]]) -> Matrix:
    """Rows as the model takes them."""
    agreed = contract(PAIR)
    return encode(agreed, {name: [row[name] for row in rows] for name in agreed.feature_names})


class Store:
    """The online store, as Feast lays it out in SQLite; written again and again, as by a materialisation."""

    KEYS = 200

    def __init__(self, path: Path) -> None:
        from tests.serving.online_file import OnlineFile

        self._file = OnlineFile(path, project="soak")
        self._writes = 0
        self.write()

    @property
    def url(self) -> str:
        """For ``--online-store``."""
        return self._file.url

    def write(self) -> None:
        """New values for all keys, known now, each view in a transaction."""
        from serving.feast_format import key_prefix, key_suffix
        from tests.serving.online_file import encoded

        random = np.random.default_rng(self._writes)
        self._writes += 1
        now = int(datetime.now(UTC).timestamp())
        for view, entity in _VIEWS.items():
            with self._file.writing() as connection, closing(connection.cursor()) as cursor:
                cursor.execute(
                    f'CREATE TABLE IF NOT EXISTS "soak_{view}" (entity_key BLOB, feature_name TEXT, value BLOB, '
                    "event_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
                )
                cursor.executemany(
                    f'INSERT OR REPLACE INTO "soak_{view}" VALUES (?, ?, ?, ?)',  # noqa: S608 - a name of ours
                    [
                        (key_prefix(entity) + key_suffix(key(entity, n)), f"{view}_{i}", encoded(float(value)), now)
                        for n in range(self.KEYS)
                        for i, value in enumerate(random.uniform(-10, 10, 5))
                    ],
                )


def key(entity: str, number: int) -> str:
    """A key of the store, while the number is less than `Store.KEYS`."""
    return f"{entity}-{number}"


def by_key(row: dict[str, Any], number: int) -> dict[str, Any]:
    """A row without the features of views, with keys instead."""
    sent = {feature.name: row[feature.name] for feature in contract(PAIR).features if feature.view is None}
    return sent | {entity: key(entity, number) for entity in _VIEWS.values()}
