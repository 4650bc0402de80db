"""Model directories as the pipeline writes them, and a client for the app."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from starlette.testclient import TestClient

from headrace.documents import write_json
from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows, Task
from headrace.domain.encoding import encode
from serving.app import front
from serving.desk import Desk
from serving.limits import Limits
from serving.loading import load
from tests.serving.service_process import Process

VERSION = 3
FEATURES = (
    Feature("wind_speed", "float", "Wind at the origin.", unit="knots", range=(0.0, 60.0)),
    Feature("distance", "int", "Length of the way.", unit="miles", range=(50, 5000)),
    Feature("carrier", "category", "Who flies.", values=("AA", "DL", "UA")),
    Feature("is_holiday", "bool", "Whether it is a public holiday."),
    Feature(
        "recent_delay", "float", "Mean delay in the last hour.", unit="minutes", range=(-60.0, 600.0), missing=True
    ),
    Feature("gate", "category", "The gate.", values=("north", "south"), missing=True),
)
EXAMPLE = {
    "wind_speed": 12.5,
    "distance": 760,
    "carrier": "DL",
    "is_holiday": False,
    "recent_delay": None,
    "gate": "north",
}


def make_contract(task: Task) -> Contract:
    """A small contract with every type of feature."""
    classes = ("early", "on_time", "late") if task == "multiclass" else ()
    return Contract(
        model="flight_delay",
        description="Whether a flight arrives late.",
        task=task,
        rows=Rows("rows", "stage", "flight_id", "decided_at"),
        label=Label("late", "Arrives 15 minutes late or more", "known_at", LabelDelay(1, 2, 5), classes=classes),
        features=FEATURES,
        metric={"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}[task],
        business_value=BusinessValue("caught", "minutes", "Delay minutes caught."),
        budgets=Budgets(5.0, 5.0),
        example=EXAMPLE,
    )


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Valid rows, some with missing values."""
    random = np.random.default_rng(seed)
    return [
        {
            "wind_speed": round(float(random.uniform(0, 60)), 1),
            "distance": int(random.integers(50, 5000)),
            "carrier": str(random.choice(["AA", "DL", "UA"])),
            "is_holiday": bool(random.random() < 0.1),
            "recent_delay": None if random.random() < 0.2 else round(float(random.normal(10, 20)), 1),
            "gate": str(random.choice(["north", "south"])),
        }
        for _ in range(count)
    ]


def train(task: Task, contract: Contract) -> tuple[bytes, list[Any], list[dict[str, Any]]]:
    """A tiny model as ONNX, scikit-learn's own predictions for some rows, and those rows."""
    rows = make_rows(300)
    matrix = encode(contract, {name: [row[name] for row in rows] for name in contract.feature_names})
    score = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 4])
    last = LinearRegression() if task == "regression" else LogisticRegression(max_iter=500)
    label = {"binary": score > 35, "multiclass": np.digitize(score, (25, 50)), "regression": score}[task]
    model = make_pipeline(SimpleImputer(), StandardScaler(), last).fit(
        matrix, label.astype(float if task == "regression" else int)
    )
    options = {} if task == "regression" else {id(model): {"zipmap": False}}
    content = to_onnx(model, matrix[:1], options=options, target_opset=17).SerializeToString()
    golden = matrix[:20]
    predicted = model.predict(golden) if task == "regression" else model.predict_proba(golden)
    return content, (predicted[:, 1] if task == "binary" else predicted).tolist(), rows[:20]


def seal(directory: Path) -> None:
    """Write a manifest that lists what is there now."""
    names = sorted(path.name for path in directory.iterdir() if path.name != "manifest.json")
    files = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}
    manifest = {"schema_version": 1, "model": "flight_delay", "version": VERSION, "files": files}
    (directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="session")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Task to a model directory; not to be changed."""
    found = {}
    for task in ("binary", "multiclass", "regression"):
        contract = make_contract(task)
        directory = found[task] = tmp_path_factory.mktemp(task)
        content, predictions, rows = train(task, contract)
        (directory / "model.onnx").write_bytes(content)
        write_json(directory / "contract.json", contract)
        write_json(directory / "golden.json", {"rows": rows, "predictions": predictions, "tolerance": 1e-5})
        seal(directory)
    return found


@pytest.fixture
def directory(directories: dict[str, Path], tmp_path: Path) -> Path:
    """A model directory of one's own, to damage."""
    return Path(shutil.copytree(directories["binary"], tmp_path / "model"))


@pytest.fixture(name="seal")
def _seal() -> Callable[[Path], None]:
    return seal


@pytest.fixture(name="make_rows")
def _make_rows() -> Callable[..., list[dict[str, Any]]]:
    return make_rows


@pytest.fixture(params=["binary", "multiclass", "regression"])
def task(request: pytest.FixtureRequest) -> str:
    """Each task in turn."""
    return str(request.param)


@pytest.fixture
def make_client(directories: dict[str, Path]) -> Callable[..., TestClient]:
    """Makes a client for the app of a task, with the limits given."""

    def make(task: str = "binary", **limits: Any) -> TestClient:
        app = front(load(directories[task]), Desk(Limits(**limits)))
        return TestClient(app, raise_server_exceptions=False)

    return make


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> Iterator[TestClient]:
    """A client for the binary model; one event loop for the whole test."""
    with make_client() as one:
        yield one


@pytest.fixture(scope="module")
def running(directories: dict[str, Path]) -> Iterator[Process]:
    """One service for the tests that leave it running."""
    service = Process(directories["binary"])
    try:
        yield service.until_listening()
    finally:
        assert service.stop() == 0
        service.close()
