"""uvicorn, with a way out that loses no request: say unready, answer for a while, then close."""

import errno
import logging
import signal
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from headrace.errors import Conflict, UsageError

_log = logging.getLogger("headrace.serving")

# A request that takes longer than this to finish is given up.
_FINISH_S = 30


def bind(host: str, port: int) -> socket.socket:
    """Take the address; port 0 takes any. Whoever connects waits until the server starts.

    Raises:
        Conflict: the port is taken.
        UsageError: there is no such address here, or no right to it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        # Two sockets may bind the same port with SO_REUSEADDR as long as neither listens.
        taken.listen()
    except OSError as refused:
        taken.close()
        if refused.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {port} on {host} is taken: stop what holds it, or name another with --port"
            ) from refused
        raise UsageError(f"can't listen on {host} port {port}: {refused.strerror}") from refused
    return taken


class DrainingServer(uvicorn.Server):
    """A server that says unready at the first SIGTERM or SIGINT, and stops `drain_s` later; at the second at once.

    uvicorn alone refuses connections from the moment of the signal, and then dies of it.

    Attributes:
        stopped_by: the signal that stopped it.
    """

    def __init__(self, app: FastAPI, drain_s: float) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_FINISH_S,
        )
        super().__init__(config)
        self._service = app.state.service
        self._drain_s = drain_s
        self._stop_at: float | None = None
        self._draining_logged = False
        self.stopped_by: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer; from here on a signal is handled."""
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        model = self._service.model
        fields = {"model": model.name, "version": model.version, "host": host, "port": port}
        _log.info("listening", extra={"fields": fields})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        if self._stop_at is None:
            self._service.drain()
            self.stopped_by = sig
            self._stop_at = time.monotonic() + self._drain_s
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now; uvicorn asks ten times a second."""
        if self._stop_at is not None:
            self._log_draining()
            self.should_exit = self.should_exit or time.monotonic() >= self._stop_at
        return await super().on_tick(counter)

    def _log_draining(self) -> None:
        # Here and not in `handle_exit`: a signal may come while a line of the log is being written.
        if self._draining_logged or self.stopped_by is None:
            return
        self._draining_logged = True
        fields = {"signal": signal.Signals(self.stopped_by).name, "drain_s": self._drain_s}
        _log.info("draining", extra={"fields": fields})

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C that stopped it."""
        return self.stopped_by == signal.SIGINT
