"""A small HTTP proxy between Headrace and MLflow, which misbehaves where it is told to."""

import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
# What the two ends of a connection say to each other, which is not for the other side.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "host", "content-length", "accept-encoding"}


@dataclass
class Exchange:
    """What MLflow would have answered, and the connection on which to say something else."""

    handler: "_Handler"
    status: int
    headers: dict[str, str]
    body: bytes

    def answer(self, status: int | None = None, body: bytes | None = None, **headers: str) -> None:
        """Answer, as MLflow would have where nothing else is said."""
        body = self.body if body is None else body
        self.handler.send_response(self.status if status is None else status)
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {**self.headers, "content-length": str(len(body)), **said}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def until_left(self) -> None:
        """Say nothing until the client has gone, or the proxy stops."""
        self.handler.connection.settimeout(0.1)
        while not self.handler.server.stopping.is_set():
            try:
                if not self.handler.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return


Fault = Callable[[Exchange], None]


@dataclass
class _Misbehaviour:
    request: re.Pattern[str]
    fault: Fault
    met: list[str] = field(default_factory=list)


class Between(ThreadingHTTPServer):
    """Hands on every request, except where a fault is put."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__((HOST, 0), _Handler)
        self.stopping = threading.Event()
        self.behind = port
        self.misbehaviour: _Misbehaviour | None = None

    @property
    def url(self) -> str:
        """What to take for MLflow's address."""
        return f"http://{HOST}:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    @contextmanager
    def misbehaving(self, request: str, fault: Fault) -> Iterator[list[str]]:
        """Requests whose ``METHOD target`` has the pattern `request` in it meet the fault; which did, is in the list.

        AssertionError if none did.
        """
        self.misbehaviour = _Misbehaviour(re.compile(request), fault)
        try:
            yield self.misbehaviour.met
            assert self.misbehaviour.met, f"nothing asked for {request}"
        finally:
            self.misbehaviour = None


class _Handler(BaseHTTPRequestHandler):
    server: Between

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        line = f"{self.command} {self.path}"
        wrong = self.server.misbehaviour
        wrong = wrong if wrong is not None and wrong.request.search(line) else None
        if wrong is not None:
            wrong.met.append(line)
        if wrong is not None and wrong.fault is refuse:
            return
        answer = self._ask(body)
        if wrong is not None:
            wrong.fault(answer)
        else:
            answer.answer()

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _hand_on

    def _ask(self, body: bytes) -> Exchange:
        connection = http.client.HTTPConnection(HOST, self.server.behind, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            return Exchange(self, answer.status, said, answer.read())
        except OSError:
            return Exchange(self, 502, {}, b"nothing behind this proxy")
        finally:
            connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def refuse(exchange: Exchange) -> None:
    """Close the connection without an answer; MLflow is not asked."""


def status(code: int) -> Fault:
    """Answer with this status."""
    return lambda exchange: exchange.answer(code, b'{"error_code": "", "message": "made up"}')


def half(exchange: Exchange) -> None:
    """Announce the whole body, send half of it, and close."""
    exchange.answer(body=exchange.body[: len(exchange.body) // 2], content_length=str(len(exchange.body)))


def silent(exchange: Exchange) -> None:
    """Never answer."""
    exchange.until_left()


def stops(exchange: Exchange) -> None:
    """Send half of the body and then nothing, for as long as the client waits."""
    half(exchange)
    exchange.handler.wfile.flush()
    exchange.until_left()


def changed(change: Callable[[bytes], bytes], **headers: str) -> Fault:
    """Answer with another body."""
    return lambda exchange: exchange.answer(body=change(exchange.body), **headers)
