"""The service as a process beside a Redis that comes, goes, freezes and comes back."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.documents import write_json
from headrace.domain.contract import FeatureView
from tests import databases
from tests.serving.conftest import EXAMPLE, make_contract
from tests.serving.online_hash import OnlineHash
from tests.serving.service_process import Process

PATH = "/v1/models/flight_delay/predict"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[databases.Redis]:
    """A Redis that is not started yet."""
    server = databases.Redis(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def start(directory: Path, seal: Callable[[Path], None], server: databases.Redis) -> Iterator[Callable[..., Process]]:
    """Starts a service whose model has a view, with the policy given."""
    started: list[Process] = []

    def start(fallback: Any, *options: str) -> Process:
        contract = make_contract("binary")
        views = {"gates": FeatureView("gate", source="x.parquet", time="at", max_age_h=6, fallback=fallback)}
        features = [replace(one, view="gates" if one.name == "recent_delay" else None) for one in contract.features]
        write_json(directory / "contract.json", replace(contract, views=views, features=tuple(features)))
        seal(directory)
        # As Kubernetes would: the URL comes from the environment, and the flag has it whole.
        url = OnlineHash(server).url
        started.append(Process(directory, "--online-store", url, "--online-deadline-ms", "200", *options))
        return started[-1].until_listening()

    yield start
    for one in started:
        assert one.stop() == 0
        one.close()


def predict(service: Process) -> tuple[int, str | None, dict[str, Any]]:
    row = {name: value for name, value in EXAMPLE.items() if name != "recent_delay"}
    with closing(service.connect()) as connection:
        connection.request("POST", PATH, json.dumps({"rows": [row]}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Retry-After"), json.loads(answer.read())


def fill(server: databases.Redis) -> None:
    OnlineHash(server).put("gates", "gate", EXAMPLE["gate"], datetime.now(UTC), recent_delay=300.0)


def test_rows_are_refused_by_policy_whenever_it_does_not_answer_and_answered_again_afterwards(
    start: Callable[..., Process], server: databases.Redis
) -> None:
    service = start("refuse")
    refused = (503, "1", {"error": "rows[0]: view 'gates' could not be read"})
    assert predict(service) == refused
    server.start()
    fill(server)
    assert predict(service)[0] == 200
    with server.frozen():
        assert predict(service) == refused
        assert service.get("/v2/health/live")[0] == 200
        assert service.get("/v2/health/ready")[0] == 200
    assert predict(service)[0] == 200
    server.stop()
    assert predict(service) == refused
    server.start()
    assert predict(service) == (503, "1", {"error": "rows[0]: view 'gates' has no value for this 'gate'"})
    fill(server)
    assert predict(service)[0] == 200
    said = [event for event in service.events if event["event"] == "online store not read"]
    assert {event["store"] for event in said} == {f"redis://127.0.0.1:{server.port}/0"}
    assert len(said) >= 3


def test_defaults_are_used_by_policy_while_it_does_not_answer(
    start: Callable[..., Process], server: databases.Redis
) -> None:
    service = start("default", "--workers", "2")
    server.start()
    fill(server)
    status, _, with_value = predict(service)
    with server.frozen():
        frozen_status, _, without = predict(service)
    assert status == frozen_status == 200
    # Their ids differ anyway.
    first, second = (answer["predictions"][0] for answer in (with_value, without))
    assert {**first, "id": ""} != {**second, "id": ""}


def test_password_is_in_nothing_that_the_service_says(start: Callable[..., Process], server: databases.Redis) -> None:
    service = start("refuse", "--log-level", "debug")
    predict(service)
    server.start()
    predict(service)
    with server.client() as client:
        client.config_set("requirepass", "another")
        client.client_kill_filter(_type="normal", skipme=True)
        predict(service)
    everything = json.dumps(service.events) + service.get("/metrics")[1].decode()
    assert "redis://127.0.0.1" in everything
    assert server.password[:16] not in everything
