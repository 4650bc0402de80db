"""A constant load, every answer counted: the steady state that changes of weights must not disturb."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass
class Traffic:
    """Clients that POST one after the other while the block runs, half of them on a connection that they keep.

    Attributes:
        answered: version to answers with 200 since the last `mark`.
        lost: everything else: no answer, or another status.
        body: of every request, or one after the other.
    """

    url: str
    model: str
    client_count: int = 4
    pause_s: float = 0.01
    body: bytes | Iterator[bytes] = b'{"rows": []}'
    answered: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    total: int = 0

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._run, args=(n % 2 == 0,)) for n in range(self.client_count)]
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def mark(self) -> None:
        """Count the shares from here on; what was lost stays."""
        with self._lock:
            self.answered.clear()

    def wait_for(self, count: int, timeout_s: float = 30.0) -> None:
        """Until so many answers came since the mark."""
        deadline = time.monotonic() + timeout_s
        while sum(self.answered.values()) < count:
            assert time.monotonic() < deadline, f"only {self.answered} within {timeout_s} s; lost {self.lost[:3]}"
            time.sleep(0.01)

    def _run(self, keeps: bool) -> None:
        connection = self._connect()
        while not self._over.wait(self.pause_s):
            try:
                status, version = post(connection, self.model, self._next())
                problem = None if status == 200 else f"status {status}"
            except (OSError, http.client.HTTPException) as failed:
                problem, version = repr(failed), 0
            with self._lock:
                self.total += 1
                if problem is None:
                    self.answered[version] += 1
                else:
                    self.lost.append(problem)
            if problem or not keeps:
                connection.close()
                connection = self._connect()
        connection.close()

    def _next(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        with self._lock:
            return next(self.body)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)


@contextmanager
def client(url: str, timeout_s: float = 10.0) -> Iterator[http.client.HTTPConnection]:
    """A connection that is closed in the end."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout_s)
    try:
        yield connection
    finally:
        connection.close()


def status(url: str, path: str, body: bytes = b"{}", **headers: str) -> int:
    """The status of a POST on a connection of its own."""
    with client(url) as connection:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status


def post(
    connection: http.client.HTTPConnection, model: str, body: bytes = b'{"rows": []}', **headers: str
) -> tuple[int, int]:
    """Status, and the version that answered; 0 when nobody says one."""
    status, answer = ask(connection, model, body, **headers)
    return status, answer["version"] if status == 200 else 0


def visit(connection: http.client.HTTPConnection, model: str, cookie: str = "") -> tuple[int, str]:
    """The version that answers a client with these cookies, and the cookie that the client is told to keep."""
    headers = {"Content-Type": "application/json"} | ({"Cookie": cookie} if cookie else {})
    connection.request("POST", f"/v1/models/{model}/predict", b'{"rows": []}', headers)
    response = connection.getresponse()
    answer = response.read()
    assert response.status == 200, answer
    return json.loads(answer)["version"], response.getheader("Set-Cookie") or ""


def ask(
    connection: http.client.HTTPConnection, model: str, body: bytes = b'{"rows": []}', **headers: str
) -> tuple[int, dict[str, Any]]:
    """Status, and the answer; the stand-in service says who it is, and what path and headers reached it."""
    names = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", f"/v1/models/{model}/predict", body, names)
    response = connection.getresponse()
    answer = response.read()
    return response.status, json.loads(answer) if response.status == 200 else {}
