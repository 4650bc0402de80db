"""The ModelRegistry port: one suite for the fake and for a real MLflow server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headrace.adapters.local.laptop import Laptop
from headrace.adapters.local.processes import Processes
from headrace.adapters.mlflow_files import MANIFEST
from headrace.adapters.mlflow_registry import MlflowRegistry
from headrace.documents import plain, write_json
from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows
from headrace.errors import DataError, IntegrityError, Unavailable
from headrace.learning import onnx_model
from headrace.ports import PIPELINE_RUN, Judged, ModelRegistry, RunRecord
from headrace.settings import Settings
from tests import fakes
from tests.conftest import free_ports

CONTRACT = Contract(
    model="coin",
    description="Heads or tails.",
    task="binary",
    rows=Rows(source="data", stage="dvc.yaml", key="id", decision_time="at"),
    label=Label("heads", "It shows heads.", "known", LabelDelay(0, 0, 0)),
    features=(Feature("x", "float", "How it was thrown.", range=(-9, 9)),),
    metric="auc",
    business_value=BusinessValue("luck", "luck", "None."),
    budgets=Budgets(50, 5),
    example={"x": 0.5},
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("mlflow")
    ports = free_ports(3)
    settings = Settings(home, home / "home", http_port=ports[0], admin_port=ports[1], mlflow_port=ports[2])
    processes = Processes(settings.home)
    laptop = Laptop(settings, processes)
    try:
        laptop.start()
        laptop.wait(lambda said: None)
        yield settings
    finally:
        processes.stop_all()


@pytest.fixture(params=["fake", "mlflow"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> ModelRegistry:
    if request.param == "fake":
        return fakes.FakeModelRegistry(tmp_path / "registry")
    return MlflowRegistry(request.getfixturevalue("server").tracking_uri)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model name of the test's own: the server is shared."""
    return f"coin_{abs(hash(request.node.nodeid)) % 10**8}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    x = np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    (folder / "model.onnx").write_bytes(onnx_model.export(LogisticRegression().fit(x, [0, 1, 0, 1]), CONTRACT))
    write_json(folder / "contract.json", CONTRACT)
    golden = {"rows": [{"x": 0.5}], "predictions": [0.5], "tolerance": 1e-5}
    write_json(folder / "golden.json", golden)
    return folder


def register(registry: ModelRegistry, model: str, directory: Path, run_key: str = "k1"):
    run = registry.start_run(model, run_key, {})
    return registry.register(fakes.lineage(model, run_key, experiment_run=run), directory)


def test_an_unknown_model_has_nothing(registry: ModelRegistry):
    assert registry.alias("nobody", "champion") is None
    assert registry.find("nobody", "k") is None
    assert registry.verdict("nobody", "k") is None
    assert list(registry.versions("nobody")) == []
    with pytest.raises(DataError, match="no version 1"):
        registry.version("nobody", 1)


def test_a_registered_version_has_its_whole_lineage(registry: ModelRegistry, model: str, directory: Path):
    made = register(registry, model, directory)
    found = registry.version(model, made.version)
    assert found == made
    assert replace(found.lineage, files={}, experiment_run="e1") == fakes.lineage(model)
    assert {"model.onnx", "contract.json", "golden.json"} <= set(found.lineage.files)


def test_the_same_inputs_are_registered_once(registry: ModelRegistry, model: str, directory: Path):
    first = register(registry, model, directory)
    assert register(registry, model, directory).version == first.version
    assert registry.find(model, "k1") == first
    assert len(registry.versions(model)) == 1


def test_versions_come_newest_first(registry: ModelRegistry, model: str, directory: Path):
    for key in ("k1", "k2"):
        register(registry, model, directory, key)
    assert [v.version for v in registry.versions(model)] == [2, 1]


def test_an_alias_moves_and_is_forgotten(registry: ModelRegistry, model: str, directory: Path):
    for key in ("k1", "k2"):
        register(registry, model, directory, key)
    registry.set_alias(model, "champion", 1)
    registry.set_alias(model, "champion", 2)
    assert registry.alias(model, "champion") == 2
    for _ in range(2):
        registry.clear_alias(model, "champion")
        assert registry.alias(model, "champion") is None


def test_a_verdict_is_found_by_the_runs_inputs(registry: ModelRegistry, model: str):
    run = registry.start_run(model, "k1", {"a": "b"})
    registry.log_run(run, RunRecord({"p": "1"}, {"auc": 0.7}, {"t": "x"}))
    registry.log_dataset(run, "rows", "d1", "data", "training")
    registry.record_verdict(run, Judged(False, "not good enough", 3))
    assert registry.verdict(model, "k1") is None, "the run is not finished"
    registry.end_run(run, succeeded=True)
    assert registry.verdict(model, "k1") == Judged(False, "not good enough", 3)
    assert registry.verdict(model, "k2") is None


def test_a_rollout_is_remembered(registry: ModelRegistry, model: str, directory: Path):
    made = register(registry, model, directory)
    assert registry.rollout(model, made.version) is None
    registry.record_rollout(model, made.version, "finished")
    assert registry.rollout(model, made.version) == "finished"


def test_what_several_say_at_once_is_said(registry: ModelRegistry, model: str, directory: Path):
    versions = [register(registry, model, directory, f"k{n}").version for n in range(4)]

    def tell(version: int) -> None:
        registry.record_rollout(model, version, "finished")
        registry.set_alias(model, f"a{version}", version)

    with ThreadPoolExecutor(4) as several:
        for version in versions:
            list(several.map(tell, [version] * 4))
    assert {registry.rollout(model, version) for version in versions} == {"finished"}
    assert [registry.alias(model, f"a{version}") for version in versions] == versions


def test_a_download_is_what_was_registered(registry: ModelRegistry, model: str, directory: Path, tmp_path: Path):
    made = register(registry, model, directory)
    for _ in range(2):
        got = registry.download(made, tmp_path / "got")
        assert (got / "model.onnx").read_bytes() == (directory / "model.onnx").read_bytes()


def test_files_are_kept_with_the_run(registry: ModelRegistry, model: str, tmp_path: Path):
    run = registry.start_run(model, "k1", {})
    (tmp_path / "report.html").write_text("<p>")
    registry.log_files(run, tmp_path / "report.html", "evaluation")


@pytest.fixture
def mlflow(server: Settings) -> MlflowRegistry:
    return MlflowRegistry(server.tracking_uri)


def test_a_download_says_what_the_service_needs(mlflow: MlflowRegistry, model: str, directory: Path, tmp_path: Path):
    made = register(mlflow, model, directory)
    manifest = json.loads((mlflow.download(made, tmp_path / "got") / MANIFEST).read_text())
    assert manifest == {"schema_version": 1, "model": model, "version": 1, "files": plain(made.lineage)["files"]}


def test_a_changed_file_in_the_store_is_refused(
    mlflow: MlflowRegistry, server: Settings, model: str, directory: Path, tmp_path: Path
):
    made = register(mlflow, model, directory)
    stored = [p for p in (server.home / "mlflow").rglob("model.onnx") if made.lineage.experiment_run or p]
    newest = max(stored, key=lambda path: path.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        mlflow.download(made, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    assert list(tmp_path.glob(".got*")) == [], "nothing half downloaded stays"


def test_a_changed_file_on_this_machine_is_refused(mlflow: MlflowRegistry, model: str, directory: Path, tmp_path: Path):
    made = register(mlflow, model, directory)
    got = mlflow.download(made, tmp_path / "got")
    (got / "extra.pkl").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"extra\.pkl"):
        mlflow.download(made, tmp_path / "got")


def test_a_run_that_was_left_open_is_closed_by_the_next(mlflow: MlflowRegistry, model: str):
    first = mlflow.start_run(model, "k1", {})
    mlflow.start_run(model, "k1", {})
    assert mlflow._client.get_run(first).info.status == "KILLED"


def test_what_the_steps_of_a_pipeline_run_left_is_fetched(mlflow: MlflowRegistry, model: str, tmp_path: Path):
    for run_key, pipeline_run, text in (("k1", "p1", "old"), ("k2", "p1", "new"), ("k3", "p2", "other")):
        run = mlflow.start_run(model, run_key, {PIPELINE_RUN: pipeline_run})
        (tmp_path / "verdict.json").write_text(text)
        mlflow.log_files(run, tmp_path / "verdict.json", "evaluation")
    mlflow.records(model, "p1", tmp_path / "records")
    found = [path for path in (tmp_path / "records").rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path / "records").as_posix(): path.read_text() for path in found} == {
        "evaluation/verdict.json": "new"
    }


def test_a_pipeline_run_that_left_nothing_gives_an_empty_folder(mlflow: MlflowRegistry, model: str, tmp_path: Path):
    mlflow.records(model, "p1", tmp_path / "records")
    assert list((tmp_path / "records").iterdir()) == []


def test_a_server_that_is_not_there_is_unavailable_with_its_address(monkeypatch: pytest.MonkeyPatch):
    (port,) = free_ports(1)
    registry = MlflowRegistry(f"http://127.0.0.1:{port}")
    assert registry._client
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        registry.alias("coin", "champion")


def test_talking_to_mlflow_does_not_load_feast(server: Settings):
    """Feast's plug-in would cost six seconds a process, and hand the pod's token to MLflow."""
    code = (
        "import sys\n"
        "from headrace.adapters.mlflow_registry import MlflowRegistry\n"
        f"assert MlflowRegistry({server.tracking_uri!r}).alias('nobody', 'champion') is None\n"
        "assert 'feast' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
