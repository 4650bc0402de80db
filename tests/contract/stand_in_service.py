"""A small stand-in for the model service, with the same interface.

Its directory holds ``release.json`` (`model`, `version`) and switches, looked at with every request:
``refuses`` (at start: say the file's text and exit), ``not_ready``, ``fails`` (predict answers 500),
``slow_s`` (predict waits so many seconds), ``no_metrics``.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections import Counter
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
        try:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.server.switched("slow_s"):
                time.sleep(float((self.server.directory / "slow_s").read_text()))
            status = 500 if self.server.switched("fails") else 200
            with self.server.lock:
                self.server.statuses[status] += 1
            said = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}
            self._answer(status, json.dumps({**self.server.release, **said}).encode())
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the log is for what matters."""

    def _metrics(self) -> bytes:
        release = self.server.release
        labels = f'{telemetry.MODEL}="{release["model"]}",{telemetry.VERSION}="{release["version"]}"'
        lines = [f"# TYPE {telemetry.REQUESTS} counter"]
        for status, count in sorted(self.server.statuses.items()):
            lines.append(f'{telemetry.REQUESTS}{{{labels},{telemetry.STATUS}="{status}"}} {float(count)}')
        return "\n".join([*lines, ""]).encode()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
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
