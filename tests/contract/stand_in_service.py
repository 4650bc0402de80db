"""A small stand-in for the model service, with the same interface.

Its directory holds ``release.json`` (`model`, `version`) and switches, looked at with every request:
``refuses`` (at start: say the file's text and exit), ``not_ready``, ``no_metrics``, ``metrics`` (what it says instead
of its own), ``counts`` (JSON: what its own metrics say besides, metric to a number or to numbers by upper bound),
``recent`` (what it says of its latest predictions; without it, 404); of predict: ``fails`` (it answers 500, or the
file's status), ``slow_s`` (it waits so many seconds), ``held`` (it waits until the file is gone), ``at_most`` (while so
many are in flight, it answers 503), ``heard`` (it adds every request's headers, as a line of JSON), ``says`` (its
answer). Where the directory is out of a test's reach, ``PUT /switch/NAME`` with a text and ``DELETE`` are its switches.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from headrace import telemetry


class Service(ThreadingHTTPServer):
    """Answers for one release."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, address: tuple[str, int], directory: Path) -> None:
        super().__init__(address, Handler)
        self.directory = directory
        self.release = json.loads((directory / "release.json").read_text())
        self.statuses: Counter[int] = Counter()
        self.in_flight = 0
        self.lock = threading.Lock()
        self.started_at = time.time()

    def switched(self, name: str) -> bool:
        return (self.directory / name).exists()

    def text(self, name: str) -> str:
        """Of a switch that is on."""
        return (self.directory / name).read_text()

    def drain(self) -> None:
        """Take no new request, and end once none is in flight."""
        self.shutdown()
        deadline = time.monotonic() + 10
        while self.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)


class Handler(BaseHTTPRequestHandler):
    """The paths of the model service."""

    server: Service
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path == "/v2/health/ready":
            self._answer(503 if self.server.switched("not_ready") else 200, b"{}")
        elif self.path == "/metrics" and not self.server.switched("no_metrics"):
            self._answer(200, self._metrics())
        elif self.path == telemetry.RECENT_PATH and self.server.switched("recent"):
            self._answer(200, self.server.text("recent").encode())
        else:
            self._answer(200 if self.path == "/v2/health/live" else 404, b"{}")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._switch.write_bytes(body)
        self._answer(200, b"{}")

    def do_DELETE(self) -> None:
        self._switch.unlink(missing_ok=True)
        self._answer(200, b"{}")

    @property
    def _switch(self) -> Path:
        return self.server.directory / Path(self.path).name

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.in_flight += 1
            in_flight = self.server.in_flight
        try:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = self._status(headers, in_flight)
            with self.server.lock:
                self.server.statuses[status] += 1
            said = json.dumps({**self.server.release, "path": self.path, "headers": headers})
            if self.server.switched("says"):
                said = self.server.text("says")
            self._answer(status, said.encode(), {"Retry-After": "1"} if status == 503 else {})
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def _status(self, headers: dict[str, str], in_flight: int) -> int:
        """What to answer a predict request with, once it is time to."""
        service = self.server
        if service.switched("heard"):
            with service.lock, (service.directory / "heard").open("a") as file:
                file.write(json.dumps(headers) + "\n")
        if service.switched("at_most") and in_flight > int(service.text("at_most")):
            return 503
        if service.switched("slow_s"):
            time.sleep(float(service.text("slow_s")))
        while service.switched("held"):
            time.sleep(0.01)
        return int(service.text("fails") or 500) if service.switched("fails") else 200

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the log is for what matters."""

    def _metrics(self) -> bytes:
        service = self.server
        if service.switched("metrics"):
            return service.text("metrics").encode()
        labels = f'{telemetry.MODEL}="{service.release["model"]}",{telemetry.VERSION}="{service.release["version"]}"'
        lines = [f"# TYPE {telemetry.REQUESTS} counter"]
        for status, count in sorted(service.statuses.items()):
            lines.append(f'{telemetry.REQUESTS}{{{labels},{telemetry.STATUS}="{status}"}} {float(count)}')
        lines += [f"# TYPE {telemetry.READY} gauge", f"{telemetry.READY}{{{labels}}} 1"]
        lines += [f"# TYPE {telemetry.STARTED} gauge", f"{telemetry.STARTED} {service.started_at}"]
        for metric, value in (json.loads(service.text("counts")) if service.switched("counts") else {}).items():
            lines += _family(metric, labels, value)
        return "\n".join([*lines, ""]).encode()

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _family(metric: str, labels: str, value: Any) -> Iterator[str]:
    """A counter, or with bounds a histogram; what labels it has besides the release's, say nothing."""
    if isinstance(value, dict):
        yield f"# TYPE {metric} histogram"
        for bound, count in value.items():
            yield f'{metric}_bucket{{{labels},le="{bound}"}} {float(count)}'
        return
    others = "".join(f',{name}="any"' for name in telemetry.LABELS[metric] if name not in telemetry.RELEASE_LABELS)
    yield f"# TYPE {metric} counter"
    yield f"{metric}{{{labels}{others}}} {float(value)}"


def main() -> None:
    """Serve a directory until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    # The chart gives it the flags of the real service.
    options, _ = parser.parse_known_args()
    if (options.directory / "refuses").exists():
        sys.exit(f"headrace: {(options.directory / 'refuses').read_text()}")
    directory = options.directory
    if not os.access(directory, os.W_OK):
        directory = Path(tempfile.mkdtemp())
        shutil.copytree(options.directory, directory, dirs_exist_ok=True)
    service = Service((options.host, options.port), directory)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=service.drain).start())
    service.serve_forever(poll_interval=0.05)
    while threading.active_count() > 1 and service.in_flight:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
