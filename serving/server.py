"""uvicorn, with a way out that loses no request, and a way to another version that loses none either."""

import asyncio
import errno
import logging
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from headrace.errors import Conflict, HeadraceError, UsageError
from serving.front import Front, Release
from serving.one_write import OneWriteProtocol

_log = logging.getLogger("headrace.serving")

# A request that takes longer than this to finish is given up.
_FINISH_S = 30
# uvicorn calls ten times a second.
_TICKS_PER_LOOK = 10


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
        taken.listen(2048)
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

    uvicorn alone refuses connections from the moment of the signal, and then dies of it. At SIGHUP it loads its
    directory again and puts what it finds in front, if that is a version in order.

    Args:
        front: what is served.
        drain_s: seconds between the signal and the end of listening.
        load: reads the directory; called in a thread. What it raises is logged, and then nothing changes.
        started: called once it answers.

    Attributes:
        stopped_by: the signal that stopped it.
    """

    def __init__(
        self, front: Front, drain_s: float, load: Callable[[], Release], started: Callable[[], object] = lambda: None
    ) -> None:
        config = uvicorn.Config(
            front,
            http=OneWriteProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_FINISH_S,
        )
        super().__init__(config)
        self._front = front
        self._drain_s = drain_s
        self._load = load
        self._started = started
        self._before: list[Release] = []
        self._reloading: asyncio.Task[None] | None = None
        self._reload_asked = False
        self._stop_at: float | None = None
        self._draining_said = False
        self.stopped_by: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer; from here on a signal is handled."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._begin_reload)
        # From before the directory was read: what was put there meanwhile is what was meant.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        host, port = (sockets or [])[0].getsockname()[:2]
        model = self._front.service.model
        fields = {"model": model.name, "version": model.version, "host": host, "port": port}
        _log.info("listening", extra={"fields": fields})
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop.

        Runs between any two instructions, also where a lock of the log or of a metric is held: it takes none.
        """
        if self._stop_at is None:
            self._front.service.desk.draining = True
            self.stopped_by = sig
            self._stop_at = time.monotonic() + self._drain_s
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now; uvicorn asks ten times a second."""
        if self._stop_at is not None:
            self._say_draining()
            self.should_exit = self.should_exit or time.monotonic() >= self._stop_at
        if counter % _TICKS_PER_LOOK == 0:
            try:
                self.look_after()
            except Exception:  # an exception here would end the server, and all requests with it
                _log.exception("what is predicted could not be counted or handed over")
        return await super().on_tick(counter)

    def look_after(self) -> None:
        """Count and hand over what was predicted since the last time."""
        for release in (self._front.release, *self._before):
            release.service.recorder.seal()
        if self._reloading is None or self._reloading.done():
            self._forget()
        self._front.service.desk.tick()

    def _begin_reload(self) -> None:
        # Asked for while one is under way, it may have read too early: another one follows.
        self._reload_asked = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        while self._reload_asked and self._stop_at is None:
            self._reload_asked = False
            await self._swap()

    async def _swap(self) -> None:
        """Put what the directory holds now in front; what is wrong with it leaves the old version where it is."""
        old = self._front.release
        reloads = old.service.desk.families.reloads
        try:
            new = await asyncio.to_thread(self._load)
        except Exception as problem:
            reloads.labels("failed").inc()
            foreseen = isinstance(problem, HeadraceError)
            fields = {"reason": str(problem), "version": old.service.model.version}
            _log.error(
                "not swapped, the version before serves on",
                extra={"fields": fields},
                exc_info=None if foreseen else problem,
            )
            return
        self._front.put(new)
        old.service.retire(new.service)
        self._before.append(old)
        self._forget()
        reloads.labels("swapped").inc()
        fields = {"version": new.service.model.version, "before": old.service.model.version}
        _log.info("swapped", extra={"fields": fields})

    def _forget(self) -> None:
        """Let go of versions that nobody waits for any more, and of their metrics; not while a thread makes others.

        The last one before stays, so that its metrics are scraped once more.
        """
        done = [one for one in self._before[:-1] if not one.under_way]
        self._before = [one for one in self._before if one not in done]
        kept = {one.service.model.version for one in (self._front.release, *self._before)}
        for one in done:
            one.service.recorder.seal()
            if one.service.model.version not in kept:
                one.service.desk.families.forget(one.service.model.name, one.service.model.version)

    def _say_draining(self) -> None:
        if self._draining_said or self.stopped_by is None:
            return
        self._draining_said = True
        self._front.service.drain()
        fields = {"signal": signal.Signals(self.stopped_by).name, "drain_s": self._drain_s}
        _log.info("draining", extra={"fields": fields})

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C that stopped it."""
        return self.stopped_by == signal.SIGINT
