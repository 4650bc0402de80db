"""The Prober port: over HTTP to stand-ins, and to the service itself."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.http_prober import HttpProber
from headrace.ports import Prober
from headrace.settings import HOST
from headrace.telemetry import PROBE_ID
from tests.conftest import free_ports
from tests.contract.routers import MODEL
from tests.contract.stand_in_service import Service
from tests.fakes import FakeProber

ROWS = [{"distance": 760}, {"distance": None}]


@pytest.fixture
def directory(model_directory: Callable[..., Path]) -> Path:
    """Of the stand-in; its switches are files in it."""
    return model_directory(3)


@pytest.fixture
def url(directory: Path) -> Iterator[str]:
    """A stand-in that answers."""
    service = Service((HOST, 0), directory)
    running = threading.Thread(target=service.serve_forever, args=(0.01,))
    running.start()
    try:
        yield f"http://{HOST}:{service.server_address[1]}"
    finally:
        service.shutdown()
        running.join()
        service.server_close()


@pytest.mark.parametrize("prober", [FakeProber(), HttpProber()], ids=["fake", "http"])
def test_answer_is_its_status(prober: Prober, url: str) -> None:
    assert prober.send(url, MODEL, ROWS) == 200
    assert prober.send(url, MODEL, ROWS, version=3) == 200


def test_error_is_its_status_and_no_scores(url: str, directory: Path) -> None:
    (directory / "says").write_text('{"predictions": [{"probability": 0.5}, {"probability": 0.5}]}')
    assert HttpProber().scores(url, MODEL, ROWS) == [0.5, 0.5]
    (directory / "fails").touch()
    assert HttpProber().send(url, MODEL, ROWS) == 500
    assert HttpProber().scores(url, MODEL, ROWS) is None


def test_nobody_there_is_no_answer() -> None:
    [port] = free_ports(1)
    assert HttpProber().send(f"http://{HOST}:{port}", MODEL, ROWS) == 0
    assert HttpProber().scores(f"http://{HOST}:{port}", MODEL, ROWS) is None


def test_service_that_hangs_is_no_answer(url: str, directory: Path) -> None:
    (directory / "held").touch()
    try:
        assert HttpProber(timeout_s=0.2).send(url, MODEL, ROWS) == 0
        assert HttpProber(timeout_s=0.2).scores(url, MODEL, ROWS) is None
    finally:
        (directory / "held").unlink()


def test_requests_say_that_they_are_probes(url: str, directory: Path) -> None:
    (directory / "heard").touch()
    prober = HttpProber()
    prober.send(url, MODEL, ROWS)
    prober.scores(url, MODEL, ROWS)
    lines = (directory / "heard").read_text().splitlines()
    names = [json.loads(line)["x-request-id"] for line in lines]
    assert len(set(names)) == 2
    assert all(name.startswith(PROBE_ID) and len(name) <= 64 for name in names)


def test_version_is_asked_for_by_header_and_only_when_one_is_wanted(url: str, directory: Path) -> None:
    (directory / "heard").touch()
    HttpProber().send(url, MODEL, ROWS)
    HttpProber().send(url, MODEL, ROWS, version=3)
    first, second = map(json.loads, (directory / "heard").read_text().splitlines())
    assert "headrace-version" not in first
    assert second["headrace-version"] == "3"


@pytest.mark.parametrize(
    ("predictions", "scores"),
    [
        ([{"id": "a", "probability": 0.25}, {"id": "b", "probability": 0}], [0.25, 0.0]),
        ([{"value": -12.5}, {"value": 3}], [-12.5, 3.0]),
        ([{"probabilities": {"early": 0.2, "late": 0.7}}, {"probabilities": {"early": 1.0, "late": 0.0}}], [0.7, 1.0]),
        ([{"probability": 0.5}], None),
        ([{"probability": 0.5}] * 3, None),
        ([], None),
        ([{"probability": float("nan")}, {"probability": 0.5}], None),
        ([{"value": float("inf")}, {"value": 0.5}], None),
        ([{"value": 10**400}, {"value": 0.5}], None),
        ([{"value": None}, {"value": 0.5}], None),
        ([{"probabilities": [0.5, 0.5]}] * 2, None),
        ([{"probabilities": {}}] * 2, None),
        ([{"id": "a"}] * 2, None),
        ([0.5, 0.5], None),
        ({"a": 0.5, "b": 0.5}, None),
        (None, None),
    ],
)
def test_scores_are_one_finite_number_a_row_or_none(
    url: str, directory: Path, predictions: Any, scores: list[float] | None
) -> None:
    (directory / "says").write_text(json.dumps({"predictions": predictions}))
    assert HttpProber().scores(url, MODEL, ROWS) == scores


@pytest.mark.parametrize("said", ["", "{", "[]", "{}", "3", '"predictions"', "\xff"])
def test_answer_that_is_no_answer_has_no_scores(url: str, directory: Path, said: str) -> None:
    (directory / "says").write_text(said)
    assert HttpProber().scores(url, MODEL, ROWS) is None


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_scores_of_the_service_itself_are_what_its_model_predicts(tmp_path: Path, task: Any) -> None:
    from headrace.documents import write_json
    from tests.serving import conftest as serving  # scikit-learn takes seconds to import
    from tests.serving.service_process import Process

    contract = serving.make_contract(task)
    content, predictions, rows = serving.train(task, contract)
    (tmp_path / "model.onnx").write_bytes(content)
    write_json(tmp_path / "contract.json", contract)
    write_json(tmp_path / "golden.json", {"rows": rows, "predictions": predictions, "tolerance": 1e-5})
    serving.seal(tmp_path)
    expected = [max(one) for one in predictions] if task == "multiclass" else predictions
    service = Process(tmp_path)
    try:
        service.until_listening()
        found = HttpProber().scores(f"http://{HOST}:{service.port}", MODEL, rows)
    finally:
        service.stop()
        service.close()
    assert found == pytest.approx(expected, abs=1e-4)
