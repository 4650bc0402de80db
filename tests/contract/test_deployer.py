"""The Deployer port: the fake, and processes on this machine."""

import http.server
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.adapters.cluster.helm_deployer import HelmDeployer
from headrace.adapters.local.process_deployer import ProcessDeployer
from headrace.adapters.local.processes import Processes
from headrace.errors import Unavailable
from headrace.ports import Deployer
from headrace.settings import Settings
from tests.contract.conftest import MODEL, eventually, stand_in_command
from tests.contract.traffic import status
from tests.fakes import FakeDeployer, model_version

Make = Callable[..., Path]


@pytest.fixture(params=["fake", "local", "cluster"])
def deployer(request: pytest.FixtureRequest) -> Deployer:
    return FakeDeployer() if request.param == "fake" else request.getfixturevalue(f"{request.param}_deployer")


@pytest.fixture
def unready(request: pytest.FixtureRequest, deployer: Deployer) -> Callable[[Path], None]:
    """Makes version 3 say that it is not ready."""
    if not isinstance(deployer, HelmDeployer):
        return lambda directory: (directory / "not_ready").touch()
    cluster = request.getfixturevalue("cluster_session")
    return lambda _: cluster.switch(MODEL, 3, "not_ready")


def test_started_version_is_ready_and_running(deployer: Deployer, model_directory: Make) -> None:
    endpoint = deployer.start(model_version(3), model_directory(3), timeout_s=30)
    assert (endpoint.model, endpoint.version, endpoint.ready) == (MODEL, 3, True)
    assert list(deployer.running(MODEL)) == [endpoint]


def test_start_is_idempotent(deployer: Deployer, model_directory: Make) -> None:
    first = deployer.start(model_version(3), model_directory(3), timeout_s=30)
    assert deployer.start(model_version(3), model_directory(3), timeout_s=30) == first
    assert len(deployer.running(MODEL)) == 1


def test_versions_run_side_by_side_oldest_first_and_models_apart(deployer: Deployer, model_directory: Make) -> None:
    deployer.start(model_version(10), model_directory(10), timeout_s=30)
    deployer.start(model_version(9), model_directory(9), timeout_s=30)
    deployer.start(model_version(1, "flight"), model_directory(1, "flight"), timeout_s=30)
    running = deployer.running(MODEL)
    assert [endpoint.version for endpoint in running] == [9, 10]
    assert len({endpoint.url for endpoint in running}) == 2
    assert [endpoint.version for endpoint in deployer.running("flight")] == [1]


def test_refusing_version_is_unavailable_with_its_own_words_and_gone(deployer: Deployer, model_directory: Make) -> None:
    directory = model_directory(3, refuses="model.onnx is not the file that was recorded")
    with pytest.raises(Unavailable, match=r"flight-delay-v3 stopped .*not the file that was recorded"):
        deployer.start(model_version(3), directory, timeout_s=30)
    assert deployer.running(MODEL) == []


def test_version_that_is_never_ready_is_unavailable_at_the_deadline(deployer: Deployer, model_directory: Make) -> None:
    with pytest.raises(Unavailable, match=r"not ready within 0\.5 s"):
        deployer.start(model_version(3), model_directory(3, not_ready=""), timeout_s=0.5)
    assert deployer.running(MODEL) == []


def test_failed_start_leaves_the_other_version_alone(deployer: Deployer, model_directory: Make) -> None:
    stable = deployer.start(model_version(3), model_directory(3), timeout_s=30)
    with pytest.raises(Unavailable):
        deployer.start(model_version(4), model_directory(4, refuses="no"), timeout_s=30)
    assert deployer.running(MODEL) == [stable]


def test_version_that_is_no_longer_ready_says_so(
    deployer: Deployer, model_directory: Make, unready: Callable[[Path], None]
) -> None:
    directory = model_directory(3)
    deployer.start(model_version(3), directory, timeout_s=30)
    unready(directory)
    eventually(lambda: [endpoint.ready for endpoint in deployer.running(MODEL)] == [False])


def test_stop_is_idempotent_and_ends_it(deployer: Deployer, model_directory: Make) -> None:
    deployer.stop(MODEL, 3)
    deployer.start(model_version(3), model_directory(3), timeout_s=30)
    deployer.stop(MODEL, 3)
    deployer.stop(MODEL, 3)
    assert deployer.running(MODEL) == []


def test_stop_answers_what_was_begun(local_deployer: ProcessDeployer, model_directory: Make) -> None:
    endpoint = local_deployer.start(model_version(3), model_directory(3, slow_s="0.5"), timeout_s=30)
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(status(endpoint.url, "/predict")))
    client.start()
    time.sleep(0.2)
    local_deployer.stop(MODEL, 3)
    client.join()
    assert answers == [200]


def test_version_keeps_its_port_and_leaves_a_foreign_one(
    local_deployer: ProcessDeployer, processes: Processes, settings: Settings, model_directory: Make
) -> None:
    first = local_deployer.start(model_version(3), model_directory(3), timeout_s=30)
    port = int(first.url.rsplit(":", 1)[1])
    processes.stop_all()
    processes.start_daemon()
    assert local_deployer.start(model_version(3), model_directory(3), timeout_s=30).url == first.url
    processes.stop_all()
    with http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler):
        moved = local_deployer.start(model_version(3), model_directory(3), timeout_s=30)
    assert moved.url != first.url


def test_starts_at_once_take_a_port_each(
    settings: Settings, local_deployer: ProcessDeployer, model_directory: Make
) -> None:
    def start(version: int) -> None:
        deployer = ProcessDeployer(settings, Processes(settings.home), stand_in_command, local_deployer.environment)
        deployer.start(model_version(version), model_directory(version), timeout_s=30)

    starts = [threading.Thread(target=start, args=(version,)) for version in range(1, 6)]
    for one in starts:
        one.start()
    for one in starts:
        one.join()
    running = local_deployer.running(MODEL)
    assert [endpoint.ready for endpoint in running] == [True] * 5
    assert len({endpoint.url for endpoint in running}) == 5
