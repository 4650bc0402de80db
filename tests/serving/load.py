"""Clients that ask without a pause, and keep what becomes of every request."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from headrace.telemetry import LABELS
from tests.serving.service_process import DEADLINE_S, Process

PATH = "/v1/models/flight_delay/predict"
JSON = {"Content-Type": "application/json"}


class Asked(NamedTuple):
    """What came of a request; `lost` says why nothing did."""

    status: int = 0
    version: int = 0
    lost: str = ""


class Load:
    """Some clients, each with a connection that it keeps until it is told to close it; then it leaves.

    It begins when it is entered, and ends when it is left; `asked` is complete then.
    """

    def __init__(self, service: Process, rows: list[dict[str, Any]], clients: int = 4) -> None:
        self._service = service
        self._body = json.dumps({"rows": rows}).encode()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = clients
        self._asking: list[Future[None]] = []
        self.asked: list[Asked] = []

    def __enter__(self) -> "Load":
        self._asking = [self._pool.submit(self._ask) for _ in range(self._clients)]
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._stop.set()
        self._pool.shutdown()

    def wait_for(self, count: int) -> None:
        """Wait for so many more answers."""
        wanted = len(self.asked) + count
        until(lambda: len(self.asked) >= wanted or self.gone, f"{count} answers")

    @property
    def gone(self) -> bool:
        """Whether all clients were told to leave, or lost a request."""
        return all(one.done() for one in self._asking)

    @property
    def lost(self) -> list[Asked]:
        """What was not answered with a prediction."""
        return [one for one in self.asked if one.status != 200]

    def _ask(self) -> None:
        connection = self._service.connect()
        try:
            while not self._stop.is_set():
                connection.request("POST", PATH, self._body, JSON)
                answer = connection.getresponse()
                content = json.loads(answer.read())
                version = int(answer.getheader("Headrace-Version") or 0)
                # The answer's head and its body are of one version.
                self.asked.append(Asked(answer.status, version, "" if content.get("version") == version else "mixed"))
                if answer.getheader("Connection") == "close":
                    return
        except (OSError, http.client.HTTPException, ValueError) as lost:
            self.asked.append(Asked(lost=repr(lost)))
        finally:
            connection.close()


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something; asserts that it happens."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(0.01)


def predict(service: Process, rows: list[dict[str, Any]]) -> Asked:
    """Ask once, over a connection of its own."""
    connection = service.connect()
    try:
        connection.request("POST", PATH, json.dumps({"rows": rows}), JSON)
        answer = connection.getresponse()
        answer.read()
        return Asked(answer.status, int(answer.getheader("Headrace-Version") or 0))
    finally:
        connection.close()


def metric(service: Process, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    assert name in LABELS, f"there is no metric {name}"
    return sum(one.value for one in samples(service) if one.name == name and labels.items() <= one.labels.items())


def samples(service: Process) -> list[Any]:
    """All that there is to scrape."""
    text = service.get("/metrics")[1].decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def said(service: Process, event: str) -> list[dict[str, Any]]:
    """What the log says so far of an event."""
    return [one for one in list(service.events) if one["event"] == event]
