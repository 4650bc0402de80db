"""Clients at a steady rate that remember every answer: when, with which status, by which version."""

import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.contract.traffic import post

_CLIENTS = 8


@dataclass(frozen=True)
class Answered:
    """One request: when it was begun and over (monotonic seconds), its status (0 without one), and who answered."""

    began: float
    at: float
    status: int
    version: int


@dataclass
class Load:
    """POSTs at `rate` requests a second while the block runs; each client sends at its times, late or not."""

    url: str
    model: str
    bodies: Iterator[bytes]
    rate: float = 200.0
    answers: list[Answered] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over, self._lock = threading.Event(), threading.Lock()
        self._began = time.monotonic()
        self._clients = [threading.Thread(target=self._run, args=(n,)) for n in range(_CLIENTS)]
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def for_s(self, seconds: float) -> None:
        """Let it run."""
        self._over.wait(seconds)

    @property
    def per_s(self) -> float:
        """Requests a second that there were."""
        return len(self.answers) / (max(one.at for one in self.answers) - self._began)

    def _run(self, number: int) -> None:
        step = _CLIENTS / self.rate
        due = self._began + number * step / _CLIENTS
        connection = self._connect()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            with self._lock:
                body = next(self.bodies)
            began = time.monotonic()
            try:
                status, version = post(connection, self.model, body)
            except (OSError, http.client.HTTPException):
                status, version = 0, 0
                connection.close()
                connection = self._connect()
            self.answers.append(Answered(began, time.monotonic(), status, version))
            due = max(due + step, began)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
