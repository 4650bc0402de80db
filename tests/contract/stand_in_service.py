"""A small stand-in for the model service, with the same interface.

Its directory holds ``release.json`` (`model`, `version`) and switches, looked at with every request:
``refuses`` (at start: say the file's text and exit), ``not_ready``, ``no_metrics``; of predict: ``fails`` (it answers
500), ``slow_s`` (it waits so many seconds), ``held`` (it waits until the file is gone), ``at_most`` (while so many are
in flight, it answers 503), ``heard`` (it adds every request's headers, as a line of JSON).
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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

    def switched(self, name: str) -> bool:
        return (self.directory / name).exists()

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
        else:
            self._answer(200 if self.path == "/v2/health/live" else 404, b"{}")

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
            said = {**self.server.release, "path": self.path, "headers": headers}
            self._answer(status, json.dumps(said).encode(), {"Retry-After": "1"} if status == 503 else {})
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def _status(self, headers: dict[str, str], in_flight: int) -> int:
        """What to answer a predict request with, once it is time to."""
        service = self.server
        if service.switched("heard"):
            with service.lock, (service.directory / "heard").open("a") as file:
                file.write(json.dumps(headers) + "\n")
        if service.switched("at_most") and in_flight > int((service.directory / "at_most").read_text()):
            return 503
        if service.switched("slow_s"):
            time.sleep(float((service.directory / "slow_s").read_text()))
        while service.switched("held"):
            time.sleep(0.01)
        return 500 if service.switched("fails") else 200

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the log is for what matters."""

    def _metrics(self) -> bytes:
        release = self.server.release
        labels = f'{telemetry.MODEL}="{release["model"]}",{telemetry.VERSION}="{release["version"]}"'
        lines = [f"# TYPE {telemetry.REQUESTS} counter"]
        for status, count in sorted(self.server.statuses.items()):
            lines.append(f'{telemetry.REQUESTS}{{{labels},{telemetry.STATUS}="{status}"}} {float(count)}')
        return "\n".join([*lines, ""]).encode()

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve a directory until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    if (options.directory / "refuses").exists():
        sys.exit(f"headrace: {(options.directory / 'refuses').read_text()}")
    service = Service((options.host, options.port), options.directory)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=service.drain).start())
    service.serve_forever(poll_interval=0.05)
    while threading.active_count() > 1 and service.in_flight:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
