"""Fault 7: pickles in a model directory, as MLflow lays one out, are files like any other: nobody reads them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.domain.split import Split
from tests.contract.traffic import Traffic
from tests.faults.house import MODEL, ROOT
from tests.faults.rollouts.damage import pickled
from tests.faults.rollouts.platform import Rollouts, as_trained
from tests.serving.test_process import FORBIDDEN

# What makes of a directory, for who reads it with mlflow.pyfunc, a pickle that is run.
MLMODEL = """\
flavors:
  python_function:
    loader_module: mlflow.pyfunc.model
    cloudpickle_version: 3.1.1
    python_model: python_model.pkl
    env: {conda: conda.yaml, virtualenv: python_env.yaml}
    python_version: 3.11.7
  sklearn:
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.7.2
mlflow_version: 3.17.2
"""
PICKLES = ("model.pkl", "python_model.pkl", "model.joblib", "golden.pkl")
# The service as it is started, asked from within, so that what it has imported can be seen.
SERVE_AND_TELL = """
import http.client, json, os, signal, sys, threading, time

def ask():
    port, body = int(sys.argv[1]), sys.stdin.read()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("POST", "/v1/models/flight_delay/predict", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            print(json.dumps({"status": answer.status, "modules": sorted(sys.modules)}))
            break
        except ConnectionError:
            time.sleep(0.02)
        finally:
            connection.close()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=ask).start()
from serving.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Is there once a pickle has been read."""
    return tmp_path / "unpickled"


@pytest.fixture
def planted(rollouts: Rollouts, tmp_path: Path, marker: Path) -> Path:
    """A directory as a training leaves it, with pickles in it and an MLmodel that names them."""
    directory = as_trained(rollouts.trained, tmp_path / "planted")
    for name in PICKLES:
        (directory / name).write_bytes(pickled(marker))
    (directory / "MLmodel").write_text(MLMODEL)
    return directory


def test_pickles_that_were_registered_are_carried_through_to_the_release_and_never_read(
    rollouts: Rollouts, planted: Path, marker: Path
) -> None:
    before = rollouts.route().split.stable
    version = rollouts.register(planted)
    with Traffic(rollouts.house.url, MODEL, body=rollouts.house.body) as traffic:
        assert rollouts.roll_out(version).finished
        traffic.mark()
        traffic.wait_for(50)
    assert traffic.lost == []
    assert rollouts.route().split == Split(version.version, previous=before)
    directory = rollouts.platform.model_directory(version)
    assert {path.name for path in directory.iterdir()} >= {*PICKLES, "MLmodel"}
    assert "python_function" in (directory / "MLmodel").read_text()
    assert not marker.exists()


def test_service_that_serves_them_has_no_library_that_reads_pickles_of_models(
    rollouts: Rollouts, planted: Path, marker: Path
) -> None:
    version = rollouts.register(planted)
    directory = rollouts.platform.model_directory(version)
    process = rollouts.house.process(rollouts.registry.version(MODEL, rollouts.route().split.stable).release)
    assert process
    told = serve_and_tell(directory, rollouts.house.body)
    assert told["status"] == 200
    assert not {name.partition(".")[0] for name in told["modules"]} & set(FORBIDDEN)
    assert not marker.exists()
    # What runs behind the proxy: its compiled libraries can be seen from outside.
    mapped = set(re.findall(r"/site-packages/([^/\s]+)/", Path(f"/proc/{process.pid}/maps").read_text()))
    assert "onnxruntime" in mapped
    assert not mapped & set(FORBIDDEN)


def serve_and_tell(directory: Path, body: bytes) -> dict:
    """What a service says of itself after a request, as JSON."""
    from tests.conftest import free_ports

    (port,) = free_ports(1)
    arguments = (str(port), "--directory", str(directory), "--port", str(port), "--drain-s", "0")
    done = subprocess.run(
        [sys.executable, "-c", SERVE_AND_TELL, *arguments],
        input=body.decode(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
