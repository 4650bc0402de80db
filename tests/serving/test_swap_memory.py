"""What swaps and workers that end leave behind: nothing."""

import gc
import signal
import weakref
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from starlette.testclient import TestClient

from serving.app import release
from serving.desk import Desk
from serving.loading import load
from tests.serving.service_process import Process
from tests.serving.test_process import until


def test_version_goes_with_its_release(directories: dict[str, Path]):
    """FastAPI keeps every endpoint that it has ever seen; an endpoint must not keep its version."""
    one = release(load(directories["binary"]), Desk())
    with TestClient(one.app) as client:
        for path in ("/openapi.json", "/docs", "/metrics", "/v2/models/flight_delay"):
            client.get(path)
    kept = [weakref.ref(one.service), weakref.ref(one.service.model.session), weakref.ref(one.app)]
    del one, client
    gc.collect()
    assert [ref() for ref in kept] == [None, None, None]


def ask(service: Process) -> int:
    """The status of a request for predictions of nothing."""
    with closing(service.connect()) as connection:
        connection.request("POST", "/v1/models/flight_delay/predict", b"{}", {"Content-Type": "application/json"})
        return connection.getresponse().status


def test_worker_counts_on_where_the_one_before_it_was_killed(
    directories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    service = Process(directories["binary"], "--workers", "2").until_listening()

    def started() -> int:
        return sum(event["event"] == "listening" for event in service.events)

    def counted() -> float:
        lines = service.get("/metrics")[1].decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("headrace_requests_total"))

    try:
        until(lambda: started() == 2, "the start of both")
        for _ in range(10):
            assert ask(service) == 400
        until(lambda: counted() == 10, "the count")
        files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")}
        for killed in range(1, 4):
            psutil.Process(service.process.pid).children()[0].send_signal(signal.SIGKILL)
            until(lambda killed=killed: started() == 2 + killed, "the start of another")
            assert counted() == 10
        assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")} == files
        assert service.stop() == 0
    finally:
        if service.process.poll() is None:
            service.process.kill()
        service.wait()
        service.close()
