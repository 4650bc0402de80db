"""Counters from a real Prometheus that scrapes two pods, and from answers that are none of its."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from headrace import telemetry
from headrace.adapters.cluster.prometheus_metrics import PrometheusMetrics, query
from headrace.adapters.cluster.reach import Reach
from headrace.domain.evidence import Counts
from tests.conftest import free_ports

MODEL, NAMESPACE = "flight_delay", "headrace"
_DEADLINE_S = 60.0


def program(name: str) -> str:
    """Its path; the test is skipped where it is not installed, except in CI."""
    found = shutil.which(name)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"there is no {name} on the PATH")
    return found or name


class Served:
    """One HTTP server on loopback that answers everything with `body`."""

    def __init__(self, port: int, body: str = "", status: int = 200) -> None:
        self.body, self.status, self.asked = body, status, 0
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked += 1
                told = served.body.encode()
                self.send_response(served.status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Whoever asks then is refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts servers that are gone after the test."""
    started: list[Served] = []

    def make(body: str = "", status: int = 200, port: int | None = None) -> Served:
        started.append(Served(port or free_ports(1)[0], body, status))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def source(url: str) -> PrometheusMetrics:
    kubernetes: Any = None  # an address that is no Service's is asked directly
    return PrometheusMetrics(url, NAMESPACE, Reach(kubernetes, NAMESPACE))


def pod_text(version: int, started: float, answers: Mapping[int, int], model: str = MODEL) -> str:
    """What a pod of a version tells."""
    of = f'model="{model}",version="{version}"'
    total = sum(answers.values())
    lines = [f'{telemetry.REQUESTS}{{{of},status="{status}"}} {count}' for status, count in answers.items()]
    lines += [
        f"{telemetry.ROWS}{{{of}}} {total}",
        f"{telemetry.NONFINITE_OUTPUTS}{{{of}}} 1",
        f"{telemetry.OUTPUTS_OUT_OF_RANGE}{{{of}}} 2",
        f'{telemetry.FEATURE_FALLBACKS}{{{of},view="a",reason="missing"}} 3',
        f'{telemetry.FEATURE_FALLBACKS}{{{of},view="b",reason="stale"}} 4',
        f'{telemetry.REQUEST_DURATION}_bucket{{{of},le="0.1"}} {total}',
        f'{telemetry.REQUEST_DURATION}_bucket{{{of},le="+Inf"}} {total}',
        f'{telemetry.SCORE}_bucket{{{of},le="0.5"}} 5',
        f"{telemetry.READY}{{{of}}} 1",
        f"{telemetry.STARTED} {started}",
    ]
    return "\n".join(lines) + "\n"


def counted(answers: int, errors: int, refusals: int, started: float, pods: int = 1, dead: int = 0) -> Counts:
    """Of pods as `pod_text` tells; the dead ones have the same but for their start."""
    known = pods + dead
    durations, scores = {0.1: answers}, {0.5: 5 * known}
    return Counts(answers, errors, durations, answers + known, 3 * known, 7 * known, scores, started, refusals)


class Prometheus:
    """A real one, asking two pods every second."""

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        jobs = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": NAMESPACE, "pod": pod}}
            for pod, port in ports.items()
        ]
        asked = {"job_name": "pods", "static_configs": jobs}
        every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump({"global": every, "scrape_configs": [asked]}))
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.source = source(self.url)
        command = [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/db"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, cwd=folder
            )

    def wait_for(self, expected: Mapping[int, Counts]) -> None:
        """AssertionError with what it tells, unless it tells that within a minute."""
        deadline = time.monotonic() + _DEADLINE_S
        while (told := self.source.counts(MODEL)) != expected:
            assert self._process.poll() is None, "Prometheus has ended"
            assert time.monotonic() < deadline, told
            time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def ports() -> Mapping[str, int]:
    """Of the pods that are asked."""
    return dict(zip(("pod-a", "pod-b"), free_ports(2), strict=True))


@pytest.fixture
def prometheus(tmp_path: Path, ports: Mapping[str, int]) -> Iterator[Prometheus]:
    one = Prometheus(tmp_path, ports)
    yield one
    one.stop()


def test_pods_of_one_version_are_added_up_and_a_dead_ones_answers_stay(
    prometheus: Prometheus, ports: Mapping[str, int], serve: Callable[..., Served]
):
    serve(pod_text(3, 1000, {200: 10, 422: 2, 503: 1}), port=ports["pod-a"])
    b = serve(pod_text(3, 900, {200: 20}), port=ports["pod-b"])
    prometheus.wait_for({3: counted(33, 1, 2, 900.0, pods=2)})
    b.status = 500
    # What it answered stays counted, and that it is gone shows: the oldest process is another one.
    prometheus.wait_for({3: counted(33, 1, 2, 1000.0, dead=1)})
    b.body, b.status = pod_text(3, 1100, {200: 1}), 200
    prometheus.wait_for({3: counted(14, 1, 2, 1000.0, pods=2)})


def test_versions_are_kept_apart_and_one_that_is_silent_is_left_out(
    prometheus: Prometheus, ports: Mapping[str, int], serve: Callable[..., Served]
):
    a = serve(pod_text(3, 1000, {200: 10}), port=ports["pod-a"])
    b = serve(pod_text(4, 1000, {200: 5, 500: 5}), port=ports["pod-b"])
    prometheus.wait_for({3: counted(10, 0, 0, 1000.0), 4: counted(10, 5, 0, 1000.0)})
    b.status = 500
    prometheus.wait_for({3: counted(10, 0, 0, 1000.0)})
    a.body = pod_text(3, 1000, {200: 10}, model="flight")
    prometheus.wait_for({})


def test_version_with_an_odd_label_is_left_out_and_takes_no_other_with_it(
    prometheus: Prometheus, ports: Mapping[str, int], serve: Callable[..., Served]
):
    serve(pod_text(3, 1000, {200: 10}), port=ports["pod-a"])
    b = serve(pod_text(4, 1000, {200: 5}), port=ports["pod-b"])
    both = {3: counted(10, 0, 0, 1000.0), 4: counted(5, 0, 0, 1000.0)}
    prometheus.wait_for(both)
    b.body = pod_text(4, 1000, {200: 5}) + f'{telemetry.REQUESTS}{{model="{MODEL}",version="4",status="teapot"}} 1\n'
    prometheus.wait_for({3: both[3]})


def test_query_is_promql(tmp_path: Path):
    rules = {"groups": [{"name": "g", "rules": [{"record": "x", "expr": query(MODEL, NAMESPACE)}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    command = [program("promtool"), "check", "rules", "rules.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def vector(*samples: tuple[dict[str, str], str]) -> str:
    result = [{"metric": labels, "value": [1.0, value]} for labels, value in samples]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


def sample(metric: str, value: str, version: str = "4", **labels: str) -> tuple[dict[str, str], str]:
    return {"metric": metric, "version": version, **labels}, value


STARTED = partial(sample, telemetry.STARTED, "1000")
GOOD = (sample(telemetry.REQUESTS, "7", "3", status="200"), STARTED("3"))


@pytest.mark.parametrize(
    "odd",
    [
        sample(telemetry.REQUESTS, "1", status="teapot"),
        sample(telemetry.REQUESTS, "NaN", status="200"),
        sample(telemetry.ROWS, "+Inf"),
        sample(f"{telemetry.SCORE}_bucket", "1", le="wide"),
        sample(f"{telemetry.SCORE}_bucket", "1"),
    ],
)
def test_what_can_not_be_compared_is_no_evidence_of_that_version_alone(
    serve: Callable[..., Served], odd: tuple[dict[str, str], str]
):
    told = source(serve(vector(*GOOD, STARTED(), odd)).url).counts(MODEL)
    assert told == {3: Counts(7, 0, started_at=1000.0)}


def test_version_that_is_no_number_is_left_out(serve: Callable[..., Served]):
    assert set(source(serve(vector(*GOOD, STARTED("latest"), STARTED(""))).url).counts(MODEL)) == {3}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("<html>Sign in</html>", 200),
        ("", 502),
        (json.dumps({"status": "error", "error": "query timed out"}), 503),
        (json.dumps({"status": "success", "data": {"resultType": "scalar", "result": 1}}), 200),
        (json.dumps({"status": "success", "data": {"result": [{"metric": {}}]}}), 200),
        (json.dumps([]), 200),
        (json.dumps({}), 200),
        (json.dumps({"status": "success", "data": {"result": [{"metric": {}, "value": []}]}}), 200),
    ],
)
def test_what_is_no_prometheus_is_no_evidence(serve: Callable[..., Served], body: str, status: int):
    served = serve(body, status)
    assert source(served.url).counts(MODEL) == {}
    assert served.asked == 1


def test_prometheus_that_is_down_is_no_evidence():
    (port,) = free_ports(1)
    assert source(f"http://127.0.0.1:{port}").counts(MODEL) == {}
