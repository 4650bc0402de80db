"""Several processes on one port: a parent that listens, and workers that accept.

All accept from one listening socket, so that a connection which no worker has taken yet is never lost with a worker.
The parent imports the libraries once and forks, so that the workers share their memory; it has no thread and answers
nothing.
"""

import contextlib
import ctypes
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

_log = logging.getLogger("headrace.serving")

_TOLD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_WAITED_FOR = {*_TOLD, signal.SIGCHLD}
_LOOK_S = 0.5
_LOOK_WHILE_STARTING_S = 0.02
_LONGEST_PAUSE_S = 5.0
_YOUNG_S = 5.0
_PR_SET_PDEATHSIG = 1


def hold_signals() -> None:
    """Keep the signals that `Workers.run` waits for until it does."""
    # Who started this process may ignore it, and then nobody could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)


@dataclass
class _Worker:
    place: int
    started: float
    pipe: int
    is_ready: bool = False

    def look(self) -> None:
        """See whether it said by now that it is ready; the end of the pipe, which its death brings, says nothing."""
        if not self.is_ready and select.select([self.pipe], [], [], 0)[0]:
            self.is_ready = bool(os.read(self.pipe, 1))


class Workers:
    """Keeps workers running until it is told to stop.

    The first one shows whether there is anything to serve, before there are others: what it can't start with ends all.
    Later a worker that can't start is tried again, and the others serve on.

    Args:
        count: how many.
        work: what each does; is given its place, below `count`, and what to call once it answers, and returns the exit
            code. A worker has the place of the one that it replaces.
        gone: told the place of a worker that ended.
        stopping: called when no more workers are started.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int, Callable[[], object]], int],
        gone: Callable[[int], None],
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._count = count
        self._work = work
        self._gone = gone
        self._stopped_starting = stopping
        self._workers: dict[int, _Worker] = {}
        self._has_served = False
        self._pause_s = 0.0
        self._start_at = 0.0
        self._stopping: signal.Signals | None = None
        self._failed = 0

    def run(self) -> int:
        """Run them.

        Returns:
            The exit code: that of the first worker if it could not start, else 0 after SIGTERM and 130 after Ctrl-C.
        """
        hold_signals()
        while self._workers or self._stopping is None:
            is_starting = self._look()
            while self._wants_another():
                self._start()
                is_starting = True
            told = signal.sigtimedwait(_WAITED_FOR, _LOOK_WHILE_STARTING_S if is_starting else _LOOK_S)
            if told is not None and told.si_signo in _TOLD:
                self._tell(signal.Signals(told.si_signo))
            self._reap()
        return self._failed or (130 if self._stopping is signal.SIGINT else 0)

    def _wants_another(self) -> bool:
        enough = self._count if self._has_served else 1
        return self._stopping is None and len(self._workers) < enough and time.monotonic() >= self._start_at

    def _look(self) -> bool:
        """Whether the first worker is still starting."""
        if not self._has_served:
            for worker in self._workers.values():
                worker.look()
                self._has_served |= worker.is_ready
        return bool(self._workers) and not self._has_served

    def _start(self) -> None:
        reads, writes = os.pipe()
        parent = os.getpid()
        place = min(set(range(self._count)) - {worker.place for worker in self._workers.values()})
        try:
            pid = os.fork()
        except OSError as refused:
            os.close(reads)
            os.close(writes)
            self._pause_s = max(self._pause_s, 0.1)
            self._pause("no process can be made for a worker", reason=refused.strerror)
            return
        if pid:
            os.close(writes)
            self._workers[pid] = _Worker(place, time.monotonic(), reads)
            return
        code = 1
        try:
            os.close(reads)
            for other in self._workers.values():
                os.close(other.pipe)
            _be_a_worker(parent)
            code = self._work(place, partial(os.write, writes, b"r"))
        except BaseException:
            _log.exception("a worker failed")
        finally:
            # Not sys.exit: what the parent registered is the parent's to run.
            os._exit(code)

    def _tell(self, sig: signal.Signals) -> None:
        if sig is not signal.SIGHUP:
            self._stop(sig)
        for pid in self._workers:
            os.kill(pid, sig)

    def _stop(self, sig: signal.Signals) -> None:
        if self._stopping is None:
            self._stopping = sig
            # Else who connects after the last worker has closed its own copy would wait, and then be cut off.
            self._stopped_starting()

    def _reap(self) -> None:
        """Forget workers that ended, and see to it that others take their place."""
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            worker = self._workers.pop(pid)
            worker.look()
            self._has_served |= worker.is_ready
            os.close(worker.pipe)
            self._gone(worker.place)
            if self._stopping is None:
                self._replace(pid, worker, os.waitstatus_to_exitcode(status))

    def _replace(self, pid: int, worker: _Worker, code: int) -> None:
        if not self._has_served and code > 0:
            # It said what is wrong with the directory or the options, which another one would meet too.
            self._failed = code
            self._stop(signal.SIGTERM)
            return
        if time.monotonic() - worker.started >= _YOUNG_S:
            self._pause_s = 0.0
        self._pause("a worker ended", pid=pid, exit_code=code)

    def _pause(self, event: str, **fields: object) -> None:
        """Let some time pass before the next start, more of it every time."""
        self._start_at = time.monotonic() + self._pause_s
        _log.error(event, extra={"fields": {**fields, "next_start_s": self._pause_s}})
        self._pause_s = min(max(0.1, 2 * self._pause_s), _LONGEST_PAUSE_S)


def _be_a_worker(parent: int) -> None:
    # A terminal and a supervisor signal a whole group: told twice, a worker would not wait for what is under way.
    os.setpgid(0, 0)
    _die_with(parent)
    for each in _TOLD:
        signal.signal(each, signal.SIG_DFL)
    # SIGHUP waits until the server can answer to it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR - {signal.SIGHUP})


def _die_with(parent: int) -> None:
    """Linux ends a worker whose parent was killed; elsewhere it goes on, and holds the port."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)
