"""Clients that are slow, and clients that leave: the proxy's and the service's own business, and nobody else's."""

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Mapping

from benchmarks.soak.clients import REQUEST_ID, Traffic
from benchmarks.soak.ledger import Outcome
from benchmarks.soak.shots import Shot

# The proxy closes after 5 s, and on a busy machine a little later.
CLOSED_S = 20.0
_DRIP_S = 0.25
_HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Request-ID: {id}\r\n"
SLOW: Mapping[str, tuple[bytes, bytes]] = {
    "says nothing": (b"", b""),
    "stops in the header": (b"X-Slow: ", b""),
    "header, byte by byte": (b"X-Slow: ", b"x"),
    "body never comes": (b"Content-Length: 1000\r\n\r\n", b""),
    "body, byte by byte": (b"Content-Length: 1000\r\n\r\n{", b" "),
    "chunk by chunk": (b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
}
LEAVES = ("after the request", "in the body", "with a reset")


class Rude(threading.Thread):
    """One after the other, with a pause between."""

    def __init__(self, traffic: Traffic, seed: int, pause_s: float) -> None:
        super().__init__(name=f"rude-{seed}")
        self._traffic, self._dice, self._pause_s = traffic, random.Random(seed), pause_s

    def run(self) -> None:
        """Until it is over."""
        while not self._traffic.over.wait(self._pause_s):
            shot, number = self._traffic.shots.one_row(self._dice), next(self._traffic.numbers)
            self._traffic.ledger.add(self._misbehave(shot, number))

    def _misbehave(self, shot: Shot, number: int) -> Outcome:
        raise NotImplementedError

    def _connect(self) -> socket.socket:
        host, port = self._traffic.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=CLOSED_S)


def _head(shot: Shot, number: int) -> bytes:
    return _HEAD.format(path=shot.path, id=f"{REQUEST_ID}{number}").encode()


class Slow(Rude):
    """Sends a request that never ends, and waits until the other side has had enough."""

    def _misbehave(self, shot: Shot, number: int) -> Outcome:
        name = self._dice.choice(list(SLOW))
        rest, drop = SLOW[name]
        began, problem = time.monotonic(), ""
        with contextlib.suppress(OSError), self._connect() as connection:
            connection.sendall(_head(shot, number) + rest if rest else rest)
            problem = "" if self._closed(connection, drop) else f"{name}: still open after {CLOSED_S:g} s"
        return Outcome("slow client", shot.model, number, began, time.monotonic(), 0, problem)

    def _closed(self, connection: socket.socket, drop: bytes) -> bool:
        connection.settimeout(_DRIP_S)
        deadline = time.monotonic() + CLOSED_S
        while time.monotonic() < deadline:
            try:
                if not connection.recv(65536):
                    return True
            except TimeoutError:
                if drop:
                    connection.sendall(drop)
        return False


class Leaver(Rude):
    """Sends a request, or half of one, and does not wait for the answer."""

    def _misbehave(self, shot: Shot, number: int) -> Outcome:
        how = self._dice.choice(LEAVES)
        began = time.monotonic()
        body = shot.body[: len(shot.body) // 2] if how == "in the body" else shot.body
        with contextlib.suppress(OSError), self._connect() as connection:
            connection.sendall(_head(shot, number) + b"Content-Length: %d\r\n\r\n" % len(shot.body) + body)
            if how == "with a reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return Outcome(
            "client that leaves", shot.model, number, began, time.monotonic(), 0, may_be_logged=shot.row_count
        )
