"""Faults 4 and 5 where a version is fetched: what does not come whole and as it was recorded never gets any traffic."""

from pathlib import Path

import pytest

from headrace.domain.split import Split
from headrace.errors import IntegrityError, Unavailable
from tests.contract.traffic import Traffic
from tests.faults.house import MODEL
from tests.faults.rollouts import between
from tests.faults.rollouts.damage import WRONG, gzipped, pickled
from tests.faults.rollouts.platform import Rollouts

MODEL_FILE = r"GET .*/mlflow-artifacts/artifacts/.*/model\.onnx$"
LIST = r"GET .*/mlflow-artifacts/artifacts\?path="
FAILURES = {
    "is not there": (between.status(404), "404 Client Error"),
    "can't be read": (between.status(500), "too many 500 error responses"),
    "half of it": (between.half, "IncompleteRead"),
    "nothing comes": (between.silent, "Read timed out"),
    "half of it, and then nothing": (between.stops, "Read timed out"),
    "connection is closed": (between.refuse, "Connection aborted"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_version_whose_file_can_not_be_fetched_says_why_and_gets_no_traffic(
    rollouts: Rollouts, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault, why = FAILURES[name]
    version = rollouts.register()
    if why == "Read timed out":
        # It is half a minute otherwise, five times.
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        rollouts.nothing_changes(version),
        rollouts.between.misbehaving(MODEL_FILE, fault),
        pytest.raises(Unavailable) as refused,
    ):
        rollouts.roll_out(version)
    said = str(refused.value)
    assert said.startswith(f"{MODEL} v{version.version} can't be fetched from MLflow at {rollouts.between.url}: ")
    assert "model.onnx: " in said
    assert why in said
    assert "\n" not in said


def test_list_of_files_that_does_not_come_says_why(rollouts: Rollouts) -> None:
    version = rollouts.register()
    with (
        rollouts.nothing_changes(version),
        rollouts.between.misbehaving(LIST, between.status(500)),
        pytest.raises(Unavailable, match=r"can't be fetched .*: ResponseError.'too many 500 error responses'"),
    ):
        rollouts.roll_out(version)


def test_version_that_could_not_be_fetched_is_rolled_out_by_the_same_call_later(rollouts: Rollouts) -> None:
    version, before = rollouts.register(), rollouts.route().split.stable
    with Traffic(rollouts.house.url, MODEL, body=rollouts.house.body) as traffic:
        with rollouts.between.misbehaving(MODEL_FILE, between.half), pytest.raises(Unavailable):
            rollouts.roll_out(version)
        assert rollouts.roll_out(version).finished
        traffic.mark()
        traffic.wait_for(50)
    assert traffic.lost == []
    assert rollouts.route().split == Split(version.version, previous=before)
    assert rollouts.registry.alias(MODEL, "champion") == version.version


@pytest.mark.parametrize("name", WRONG)
def test_file_that_is_not_the_recorded_one_is_refused_by_its_digest(rollouts: Rollouts, name: str) -> None:
    version = rollouts.register()
    with (
        rollouts.nothing_changes(version),
        rollouts.between.misbehaving(MODEL_FILE, between.changed(WRONG[name])),
        pytest.raises(IntegrityError, match=r"as MLflow has it is not what was registered: model\.onnx differ"),
    ):
        rollouts.roll_out(version)


def test_stream_that_unpacks_itself_is_refused_and_nothing_of_it_stays(rollouts: Rollouts) -> None:
    version = rollouts.register()
    with (
        rollouts.nothing_changes(version),
        rollouts.between.misbehaving(MODEL_FILE, between.changed(gzipped, content_encoding="gzip")),
        pytest.raises(IntegrityError, match=r"model\.onnx differ"),
    ):
        rollouts.roll_out(version)


def test_pickle_in_place_of_the_model_is_not_read(rollouts: Rollouts, tmp_path: Path) -> None:
    version, marker = rollouts.register(), tmp_path / "unpickled"
    with (
        rollouts.nothing_changes(version),
        rollouts.between.misbehaving(MODEL_FILE, between.changed(lambda model: pickled(marker))),
        pytest.raises(IntegrityError, match=r"model\.onnx differ"),
    ):
        rollouts.roll_out(version)
    assert not marker.exists()
