"""Spans: sent if they are asked for, of the client's own trace, and never at the cost of an answer."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.serving.load import JSON, PATH, said
from tests.serving.service_process import Process

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACED = JSON | {"traceparent": f"00-{TRACE}-{PARENT}-01"}
# The service in a process that says in the end whether it has the library.
LISTING = """
import sys
from serving.__main__ import main
code = main(sys.argv[4:])
print([name for name in ("opentelemetry.sdk", "opentelemetry.instrumentation.asgi") if name in sys.modules])
sys.exit(code)
"""

Rows = Callable[..., list[dict[str, Any]]]


class Collector(ThreadingHTTPServer):
    """Takes spans over HTTP, as protobuf."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        found = [span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]
        self.server.spans += found  # type: ignore[attr-defined]
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    thread = threading.Thread(target=one.serve_forever)
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


@pytest.fixture
def start(directories: dict[str, Path]) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*options: str, **more: Any) -> Process:
        started.append(Process(directories["binary"], "--drain-s", "0", *options, **more))
        return started[-1].until_listening()

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.wait()
        one.close()


def ask(service: Process, rows: Any, headers: dict[str, str]) -> tuple[int, set[str], dict[str, Any]]:
    connection = service.connect()
    try:
        connection.request("POST", PATH, json.dumps({"rows": rows}), headers)
        answer = connection.getresponse()
        return answer.status, {name for name, _ in answer.getheaders()}, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_span_continues_the_clients_trace(start, collector: Collector, make_rows: Rows, workers: str) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra `tracing` is not installed")
    service = start("--otlp-endpoint", collector.endpoint, "--workers", workers)
    assert ask(service, make_rows(1), TRACED)[0] == 200
    assert ask(service, [], TRACED)[0] == 400
    assert ask(service, make_rows(1), JSON)[0] == 200
    # What is not sent yet is sent at the end.
    assert service.stop() == 0
    mine = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    assert [span.parent_span_id.hex() for span in mine] == [PARENT] * 2
    assert [span.name for span in mine] == [f"POST {PATH}"] * 2
    others = [span for span in collector.spans if span.trace_id.hex() != TRACE]
    assert [(span.name, span.parent_span_id) for span in others] == [(f"POST {PATH}", b"")]


def test_library_is_not_imported_without_an_endpoint(start, make_rows: Rows) -> None:
    service = start(before=[sys.executable, "-c", LISTING])
    assert ask(service, make_rows(1), TRACED)[0] == 200
    assert service.stop() == 0
    assert service.process.stdout.read() == "[]\n"


@pytest.mark.parametrize("collects", ["refuses", "is silent"])
def test_collector_that_does_not_answer_changes_no_answer(start, make_rows: Rows, collects: str) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra `tracing` is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if collects == "is silent":
            taken.listen()
        service = start("--otlp-endpoint", f"http://127.0.0.1:{taken.getsockname()[1]}/v1/traces")
        plain = start()
        for rows, status in ((make_rows(2), 200), ([], 400), (make_rows(1), 200)):
            traced, untraced = ask(service, rows, TRACED), ask(plain, rows, TRACED)
            assert traced[:2] == untraced[:2]
            assert traced[0] == status
            assert [without_id(one) for one in traced[2].get("predictions", [])] == [
                without_id(one) for one in untraced[2].get("predictions", [])
            ]
        assert service.stop() == 0
    assert len(said(service, "stopped")) == 1


def without_id(prediction: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in prediction.items() if name != "id"}
