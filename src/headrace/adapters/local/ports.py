"""Ports on this machine: who has one, and which is free."""

import contextlib
import errno
import socket
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import psutil

from headrace.errors import Conflict, UsageError
from headrace.settings import HOST

_LAST = 65535
# A listener on these takes 127.0.0.1 as well.
_COVERING = (HOST, "0.0.0.0", "::", f"::ffff:{HOST}")  # noqa: S104


@dataclass(frozen=True)
class Listener:
    """Who listens on a port; `pid` and `name` are None for somebody else's process, seen without root."""

    port: int
    pid: int | None
    name: str | None

    def __str__(self) -> str:
        return "a process of another user" if self.pid is None else f"{self.name or 'a process'} (process {self.pid})"


def holder(port: int) -> Listener | None:
    """Who listens on a port of 127.0.0.1; None when it can be had."""
    if _can_have(port):
        return None
    for pid, address in _listeners():
        if address == port and pid is not None:
            with contextlib.suppress(psutil.Error):
                return Listener(port, pid, psutil.Process(pid).name())
            return Listener(port, pid, None)
    return Listener(port, None, None)


def require_free(port: int, variable: str, ours: Set[int] = frozenset()) -> None:
    """Refuse a port that somebody has.

    Args:
        port: the port.
        variable: the environment variable that sets it, for the message.
        ours: ports that are meant for something else of ours, and no way out.

    Raises:
        Conflict: somebody listens there.
        UsageError: this user may not listen there.
    """
    try:
        has = holder(port)
    except PermissionError as refused:
        raise UsageError(f"port {port} is not for ordinary users: set {variable} to one above 1023") from refused
    if has is not None:
        raise Conflict(f"port {port} is taken by {has}: set {variable}={_free_above(port, ours)} or stop it")


def next_free(start: int, taken: Set[int] = frozenset()) -> int:
    """The first port from `start` on that nobody listens on and that is not in `taken`.

    Raises:
        Conflict: there is none.
    """
    for port in range(start, _LAST + 1):
        if port not in taken and _can_have(port):
            return port
    raise Conflict(f"no port from {start} to {_LAST} is free")


def _free_above(port: int, ours: Set[int]) -> int | str:
    try:
        return next_free(max(port, 1023) + 1, ours)
    except Conflict:
        return "another"


def _can_have(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        # Without it, connections that a former listener closed would count.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as refused:
            if refused.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _listeners() -> list[tuple[int | None, int]]:
    """(pid, port) of listeners that cover 127.0.0.1; macOS without root shows only our own processes'."""
    try:
        everywhere: list[Any] = psutil.net_connections(kind="tcp")
        return [(c.pid, c.laddr.port) for c in everywhere if _covers(c)]
    except (psutil.AccessDenied, PermissionError):
        return [(process.pid, port) for process in psutil.process_iter() for port in _ports_of(process)]


def _ports_of(process: psutil.Process) -> list[int]:
    with contextlib.suppress(psutil.Error):
        own: list[Any] = process.net_connections(kind="tcp")
        return [c.laddr.port for c in own if _covers(c)]
    return []


def _covers(connection: Any) -> bool:
    return connection.status == psutil.CONN_LISTEN and connection.laddr.ip in _COVERING
