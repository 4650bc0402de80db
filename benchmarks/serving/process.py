"""A server under test: started on a core of its own, accounted with all its processes, and ended with all of them.

The benchmark adopts orphans, and only one server runs at a time: so every process below the benchmark is the server's.
"""

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.errors import Unavailable, UsageError

_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KILL_S = 10.0
_POLL_S = 0.005


def adopt_orphans() -> None:
    """From now on whatever a child leaves behind is ours to account and to end. Linux only."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants() -> list[psutil.Process]:
    """Every live process below this one, zombies left out."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started in the body runs on this core only, and so do its threads and children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def set_niceness(process: int, niceness: int) -> None:
    """Make a server or the generator more or less important than what else the machine does; 0 leaves it as it is.

    Linux shares a core between sessions first, where it groups by session, and niceness counts within one only. So the
    session's is set, and what the server says to itself about its own processes stays.

    Raises:
        UsageError: only root may.
    """
    if not niceness:
        return
    group = Path(f"/proc/{process}/autogroup")
    try:
        if group.exists():
            group.write_text(str(niceness))
        else:
            for thread in Path(f"/proc/{process}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)
    except PermissionError as refused:
        raise UsageError(f"niceness {niceness} is for root: leave --nice away") from refused
    except OSError:
        # It has ended meanwhile.
        return


@dataclass(frozen=True)
class Account:
    """What all processes of a server have used so far.

    Attributes:
        cpu_s: processor time, user and system, of children that have ended too.
        waited_s: time that live threads were ready to run and another had the core.
    """

    cpu_s: float
    waited_s: float

    def since(self, earlier: "Account") -> "Account":
        """The difference."""
        return Account(self.cpu_s - earlier.cpu_s, self.waited_s - earlier.waited_s)


class ServerProcess:
    """A server and all its processes.

    Attributes:
        ending_cpu_s: what it used from being told to end until it had ended.
    """

    def __init__(
        self, command: list[str], core: int, niceness: int, environment: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self.ending_cpu_s = 0.0
        self.started_at = time.monotonic()
        with log.open("wb") as output, pinned(core):
            self.process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the benchmark, which ends its servers itself.
                start_new_session=True,
            )
        set_niceness(self.process.pid, niceness)

    def wait_until(self, answers: Callable[[], bool], timeout_s: float) -> float:
        """Ask until it answers; returns the seconds since it was started.

        Raises:
            Unavailable: it ended, or did not answer in time.
        """
        while not answers():
            if self.process.poll() is not None:
                raise Unavailable(f"it ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() - self.started_at > timeout_s:
                raise Unavailable(f"no right answer within {timeout_s:g} s: {self.last_words()}")
            time.sleep(_POLL_S)
        return time.monotonic() - self.started_at

    def last_words(self) -> str:
        """The end of its log, in one line."""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-500:] or "it has logged nothing"

    def logged(self, text: str) -> int:
        """How many times its log says something."""
        return self._log.read_text(errors="replace").count(text)

    def account(self) -> Account:
        """What its processes have used so far."""
        cpu_s = waited_s = 0.0
        for process in psutil.Process().children(recursive=True):
            with suppress(OSError):
                cpu_s += _cpu_s(process.pid)
                waited_s += _waited_s(process.pid)
        return Account(cpu_s, waited_s)

    def memory_mb(self) -> float:
        """Proportional set size of all its processes, in 10^6 bytes."""
        total = 0
        for process in descendants():
            with suppress(OSError):
                total += _pss_bytes(process.pid)
        return total / 1e6

    def stop(self, grace_s: float) -> None:
        """End all its processes: SIGTERM to the first, SIGKILL for what is left after `grace_s`."""
        before = self.account().cpu_s
        reaped = _reaped_cpu_s()
        if self.process.poll() is None:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        end_descendants()
        self.process.wait(_KILL_S)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        self.ending_cpu_s = _reaped_cpu_s() - reaped - before


def end_descendants() -> None:
    """Kill every process below this one.

    Raises:
        Unavailable: some do not go.
    """
    deadline = time.monotonic() + _KILL_S
    while left := descendants():
        if time.monotonic() > deadline:
            raise Unavailable(f"processes {[process.pid for process in left]} do not end, not even by SIGKILL")
        for process in left:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=0.1)


def _reaped_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_s(pid: int) -> float:
    # After the name, which may have spaces: state is field 3, so utime, stime, cutime and cstime are 14 to 17.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def _waited_s(pid: int) -> float:
    waited_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            waited_ns += int((thread / "schedstat").read_text().split()[1])
    return waited_ns / 1e9


def _pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
