"""Several processes on one port: a parent that listens, and workers that accept.

All accept from one listening socket, so that a connection which no worker has taken yet is never lost with a worker.
The parent imports the libraries once and forks, so that the workers share their memory; it has no thread and answers
nothing.
"""

import contextlib
import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

_log = logging.getLogger("headrace.serving")

_TOLD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_WAITED_FOR = {*_TOLD, signal.SIGCHLD}
_LONGEST_PAUSE_S = 5.0
_YOUNG_S = 5.0
_PR_SET_PDEATHSIG = 1


@dataclass
class _Worker:
    pid: int
    started: float
    ready: int

    def was_ready(self) -> bool:
        return bool(os.read(self.ready, 1))


class Workers:
    """Keeps workers running until it is told to stop.

    Args:
        count: how many.
        work: what each does; is given what to call once it answers, and returns the exit code.
        gone: told the process id of a worker that ended.
    """

    def __init__(self, count: int, work: Callable[[Callable[[], object]], int], gone: Callable[[int], None]) -> None:
        self._count = count
        self._work = work
        self._gone = gone
        self._workers: dict[int, _Worker] = {}
        self._pause_s = 0.0
        self._start_at = 0.0
        self._stopping: signal.Signals | None = None

    def run(self) -> int:
        """Run them.

        Returns:
            The exit code: that of a worker that could not start, else 0 after SIGTERM and 130 after Ctrl-C.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        failed = 0
        while self._workers or self._stopping is None:
            if self._stopping is None and time.monotonic() >= self._start_at:
                while len(self._workers) < self._count:
                    self._start()
            told = signal.sigtimedwait(_WAITED_FOR, 0.5)
            if told is not None and told.si_signo in _TOLD:
                self._tell(signal.Signals(told.si_signo))
            failed = self._reap() or failed
        return failed or (130 if self._stopping is signal.SIGINT else 0)

    def _start(self) -> None:
        reads, writes = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writes)
            self._workers[pid] = _Worker(pid, time.monotonic(), reads)
            return
        code = 1
        try:
            os.close(reads)
            for other in self._workers.values():
                os.close(other.ready)
            _die_with_parent()
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
            code = self._work(partial(os.write, writes, b"r"))
        finally:
            # Not sys.exit: what the parent registered is the parent's to run.
            os._exit(code)

    def _tell(self, sig: signal.Signals) -> None:
        if sig is not signal.SIGHUP:
            self._stopping = self._stopping or sig
        for pid in self._workers:
            os.kill(pid, sig)

    def _reap(self) -> int:
        """Forget workers that ended; the exit code of one that will never start, else 0."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if not pid:
                return 0
            worker = self._workers.pop(pid, None)
            if worker is None:
                continue
            was_ready = worker.was_ready()
            os.close(worker.ready)
            self._gone(pid)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping is not None:
                continue
            _log.error("a worker ended", extra={"fields": {"pid": pid, "exit_code": code}})
            if not was_ready and code > 0:
                # It said what is wrong: with the directory or the options, which another one would meet too.
                self._tell(signal.SIGTERM)
                return code
            young = time.monotonic() - worker.started < _YOUNG_S
            self._pause_s = min(max(0.1, 2 * self._pause_s), _LONGEST_PAUSE_S) if young else 0.0
            self._start_at = time.monotonic() + self._pause_s


def _die_with_parent() -> None:
    """Linux ends a worker whose parent was killed; elsewhere it goes on, and holds the port."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)
