"""Processes that belong to a home, whoever their parent is now: found by a variable that only Headrace gives."""

import contextlib
import signal
import time
from collections.abc import Callable

import psutil

from headrace.errors import Unavailable

HOME_MARK = "TETHERED_TO"
PROGRAM_MARK = "TETHERED_AS"
_POLL_S = 0.05
_KILL_WAIT_S = 5.0


def tethered(home: str, program: str | None = None) -> list[psutil.Process]:
    """The live processes of a home, or of one of its programs, other than the caller and its ancestors.

    A process whose environment can't be read is not provably ours, and not in it. Zombies are not either.
    """
    spared = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ() if process.pid not in spared else {}
            if environment.get(HOME_MARK) == home and program in (None, environment.get(PROGRAM_MARK)):
                found.append(process)
    return found


def daemons(home: str) -> list[psutil.Process]:
    """The supervisords of a home: one, or after an accident more."""
    found = []
    for process in tethered(home):
        with contextlib.suppress(psutil.Error):
            if "supervisor.supervisord" in process.cmdline():
                found.append(process)
    return found


def end(find: Callable[[], list[psutil.Process]], grace_s: float) -> None:
    """End what `find` finds: SIGTERM, and SIGKILL for what is left after `grace_s`. psutil refuses a reused pid.

    Raises:
        Unavailable: some do not go, which only a process stuck in the kernel does.
    """
    _signal(find(), signal.SIGTERM)
    if wait_gone(find, grace_s):
        return
    deadline = time.monotonic() + _KILL_WAIT_S
    while left := find():
        if time.monotonic() >= deadline:
            raise Unavailable(f"processes {sorted(p.pid for p in left)} do not end, not even by SIGKILL")
        _signal(left, signal.SIGKILL)
        time.sleep(_POLL_S)


def wait_gone(find: Callable[[], list[psutil.Process]], timeout_s: float) -> bool:
    """Whether nothing is found any more, within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while find():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
