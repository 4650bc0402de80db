"""Clients that ask at a steady rate and look at every answer."""

import contextlib
import http.client
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import xor
from typing import Any

import numpy as np
import orjson

from benchmarks.soak.ledger import Ledger, Outcome
from benchmarks.soak.material import DIRECTORIES, PAIRED_VERSION, TOLERANCE
from benchmarks.soak.shots import JSON, Shot, Shots

VERSIONS = {*DIRECTORIES.values(), PAIRED_VERSION}
REQUEST_ID = "soak-"
_TIMEOUT_S = 20.0
_ANSWERS_A_CONNECTION = 200
_LARGEST_ERROR_BYTES = 65_536


@dataclass
class Traffic:
    """What all clients share."""

    url: str
    shots: Shots
    ledger: Ledger = field(default_factory=Ledger)
    over: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class Client(threading.Thread):
    """Asks again and again, `per_s` times a second if the answers come that fast; what is late is not made up for."""

    def __init__(self, traffic: Traffic, seed: int, per_s: float) -> None:
        super().__init__(name=f"client-{seed}")
        self._traffic = traffic
        self._dice = random.Random(seed)
        self._apart_s = 1 / per_s
        self._connection: http.client.HTTPConnection | None = None
        self._left = 0

    def run(self) -> None:
        """Until it is over."""
        due = time.monotonic() + self._dice.random() * self._apart_s
        while not self._traffic.over.wait(max(due - time.monotonic(), 0)):
            due = max(due + self._apart_s, time.monotonic() - self._apart_s)
            self._traffic.ledger.add(self._ask(self._traffic.shots.next(self._dice)))
        self._close()

    def _ask(self, shot: Shot) -> Outcome:
        number, began = next(self._traffic.numbers), time.monotonic()
        status, problem, answer = 0, "", b""
        headers: dict[str, str] = {}
        try:
            status, headers, answer = self._exchange(shot, number)
        except (OSError, http.client.HTTPException) as failed:
            problem = f"no answer: {type(failed).__name__}"
            self._close()
        common: Any = (shot.kind, shot.model, number, began, time.monotonic(), status)
        if status and not problem:
            problem = _status_problem(shot, status, answer)
        row_count = mark = 0
        if status == 200 and not problem and shot.row_count:
            problem, row_count, mark = _judge(shot, headers, answer)
        return Outcome(
            *common,
            problem=problem,
            row_count=row_count,
            mark=mark,
            label_count=shot.label_count if status == 200 else 0,
            labels_in_doubt=0 if status == 200 else shot.label_count,
            may_be_logged=shot.row_count,
        )

    def _exchange(self, shot: Shot, number: int) -> tuple[int, dict[str, str], bytes]:
        if self._connection is None or not self._left:
            self._close()
            host = self._traffic.url.removeprefix("http://")
            self._connection, self._left = http.client.HTTPConnection(host, timeout=_TIMEOUT_S), _ANSWERS_A_CONNECTION
        self._left -= 1
        headers = {"Content-Type": JSON, "X-Request-ID": f"{REQUEST_ID}{number}", **shot.headers}
        if shot.announced_bytes:
            headers["Content-Length"] = str(shot.announced_bytes)
        self._connection.request(shot.method, shot.path, shot.body or None, headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.will_close or shot.announced_bytes:
            self._close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, answer

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _status_problem(shot: Shot, status: int, answer: bytes) -> str:
    if status not in shot.statuses:
        return f"status {status}"
    if status >= 400 and len(answer) > _LARGEST_ERROR_BYTES:
        return f"status {status} with {len(answer)} bytes"
    if shot.label_count and orjson.loads(answer) != {"accepted": shot.label_count}:
        return "other labels accepted than sent"
    return ""


def _judge(shot: Shot, headers: dict[str, str], answer: bytes) -> tuple[str, int, int]:
    """What is wrong with an answer of predictions; how many there are, and their mark."""
    try:
        version, ids, probabilities = _read(shot, headers, answer)
    except (ValueError, KeyError, TypeError) as broken:
        return f"unreadable answer: {type(broken).__name__}", 0, 0
    problem = ""
    if not len(ids) == len(probabilities) == shot.row_count:
        problem = "not a prediction for each row"
    elif version not in VERSIONS:
        problem = f"version {version} answered"
    elif shot.expected is not None and not np.allclose(probabilities, shot.expected[version], atol=TOLERANCE):
        problem = f"not what version {version} predicts"
    return problem, len(ids), mark_of(ids)


def _read(shot: Shot, headers: dict[str, str], answer: bytes) -> tuple[int, Sequence[str], Any]:
    if "/infer" not in shot.path:
        document = orjson.loads(answer)
        items = document["predictions"]
        return document["version"], [one["id"] for one in items], [one["probability"] for one in items]
    length = int(headers.get("inference-header-content-length", len(answer)))
    document, rest = orjson.loads(answer[:length]), answer[length:]
    if rest:
        count = document["outputs"][0]["shape"][0]
        probabilities = np.frombuffer(rest[: 8 * count], "<f4").reshape(-1, 2)[:, 1]
        ids = [rest[at + 4 : at + 36].decode() for at in range(8 * count, len(rest), 36)]
        return int(document["model_version"]), ids, probabilities
    values, ids = (output["data"] for output in document["outputs"])
    return int(document["model_version"]), ids, values[1::2]


def mark_of(ids: Sequence[str]) -> int:
    """Exclusive or of the first 64 bits of hexadecimal ids."""
    return reduce(xor, (int(one[:16], 16) for one in ids), 0)


@contextlib.contextmanager
def running(clients: Sequence[threading.Thread], over: threading.Event) -> Iterator[None]:
    """Started for the block, and ended with it."""
    for client in clients:
        client.start()
    try:
        yield
    finally:
        over.set()
        for client in clients:
            client.join()
