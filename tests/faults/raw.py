"""Requests that no HTTP client would send, byte by byte."""

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

ANSWER_S = 15.0


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection that is closed in the end."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=ANSWER_S) as connection:
        yield connection


def request(target: str, *headers: str, body: bytes = b"", method: str = "POST", host: str = "localhost") -> bytes:
    """A request as it goes over the wire, after which the connection is to be closed."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass(frozen=True)
class Reply:
    """What came until the other side closed the connection; `status` is 0 when that was nothing.

    Attributes:
        headers: by name in lower case.
        size: of everything, in bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    size: int


def ask(url: str, sent: bytes) -> Reply:
    """Send bytes, and read until the other side closes.

    Raises:
        TimeoutError: it doesn't.
    """
    received = b""
    with connected(url) as connection:
        # Whoever refuses what is too large may close before it has read it all, and reset what comes later.
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Reply(int(lines[0].split()[1]) if head else 0, headers, body, len(received))


@contextmanager
def opened(url: str, first: Mapping[str, bytes]) -> Iterator[dict[str, socket.socket]]:
    """A connection for each name, on which its bytes were sent."""
    with ExitStack() as stack:
        connections = {name: stack.enter_context(connected(url)) for name in first}
        for name, connection in connections.items():
            connection.sendall(first[name])
        yield connections


def open_for_s(
    connections: Mapping[str, socket.socket], deadline_s: float, drip: Mapping[str, bytes] | None = None
) -> dict[str, float]:
    """Wait until the other side has closed all, and send each one's drip about four times a second meanwhile.

    Returns:
        Name to seconds from now until it was closed, of those that were before the deadline.
    """
    closed: dict[str, float] = {}
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for name, connection in connections.items():
            selector.register(connection, selectors.EVENT_READ, name)
        while selector.get_map() and time.monotonic() - began < deadline_s:
            for key, _ in selector.select(timeout=0.25):
                if not _read(connections[key.data]):
                    closed[key.data] = time.monotonic() - began
                    selector.unregister(key.fileobj)
            for name, drop in (drip or {}).items():
                if name not in closed:
                    with contextlib.suppress(ConnectionError):
                        connections[name].sendall(drop)
    return closed


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""
