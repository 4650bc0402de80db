"""Keeps processes alive on this machine, with supervisord."""

import contextlib
import os
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headrace.adapters.local import control, daemon, leftovers, locks, programs
from headrace.adapters.local.programs import Program
from headrace.errors import Conflict, DataError, HeadraceError, Unavailable, UsageError

State = Literal["starting", "running", "backoff", "stopping", "stopped", "exited", "failed", "unknown"]

_STATES: Mapping[str, State] = {
    "STARTING": "starting",
    "RUNNING": "running",
    "BACKOFF": "backoff",
    "STOPPING": "stopping",
    "STOPPED": "stopped",
    "EXITED": "exited",
    "FATAL": "failed",
}
_START_S = 20.0
_GRACE_S = 3.0
_POLL_S = 0.02
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class ProcessState:
    """How a declared program is.

    Attributes:
        pid, uptime_s: None when it does not run.
        why: empty when it is well; else what is known, with the last lines of its log.
    """

    name: str
    state: State
    pid: int | None = None
    uptime_s: float | None = None
    why: str = ""


class Processes:
    """The declared programs of one home, and the supervisord that keeps them alive.

    Every command that changes something holds a lock, so several may run at once.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._identity = os.path.realpath(home)
        self._folder = home / "supervisor"
        self._conf_d = self._folder / "conf.d"
        self._control = control.Control(self._folder / "supervisor.sock")

    def start_daemon(self) -> None:
        """Make sure that supervisord runs, and with it every declared program. Idempotent.

        It has a session of its own and outlives the caller. What an earlier one left behind is ended first.

        Raises:
            Unavailable: it does not start, or one runs that gives no answer.
        """
        with self._locked():
            self._ensure_daemon()
            self._follow_files()

    def declare(self, program: Program) -> bool:
        """Run a program from now on, with its new definition if that changed; starts the daemon if need be.

        Returns:
            False when it ran with this very definition already: nothing was done.
        """
        path = self._path(program.name)
        with self._locked():
            text = programs.render(program)
            changed = not path.exists() or path.read_bytes() != text.encode()
            if changed:
                programs.write_private(path, text)
            self._ensure_daemon()
            followed = self._follow_files()
            return self._wake(program.name) or followed or changed

    def declared(self) -> tuple[Program, ...]:
        """The declared programs by name, whether they run or not."""
        found = []
        for path in sorted(self._conf_d.glob("*.conf")):
            try:
                found.append(programs.read(path))
            except DataError:
                # Another command may have removed it in between.
                if path.exists():
                    raise
        return tuple(found)

    def remove(self, name: str) -> None:
        """End a program and forget it. Idempotent."""
        with self._locked():
            self._path(name).unlink(missing_ok=True)
            with contextlib.suppress(control.DaemonDown):
                self._follow_files()
            leftovers.end(lambda: leftovers.tethered(self._identity, name), grace_s=_GRACE_S)

    def restart(self, name: str) -> None:
        """End a program and start it again.

        Raises:
            UsageError: nothing of that name is declared.
        """
        with self._locked():
            self._stop(name)
            self._wake(name)

    def states(self) -> tuple[ProcessState, ...]:
        """How every declared program is, by name; without a daemon they are all stopped."""
        names = sorted(path.stem for path in self._conf_d.glob("*.conf"))
        try:
            known = {info["name"]: info for info in self._control.call("getAllProcessInfo")}
        except control.DaemonDown:
            return tuple(ProcessState(name, "stopped", why="supervisord does not run") for name in names)
        except Unavailable as silent:
            return tuple(ProcessState(name, "unknown", why=str(silent)) for name in names)
        return tuple(
            self._state(known[name]) if name in known else ProcessState(name, "stopped", why="not started yet")
            for name in names
        )

    def pids(self, name: str) -> set[int]:
        """The live processes of a program, those that outlive it for a moment included."""
        return {process.pid for process in leftovers.tethered(self._identity, name)}

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self.home / "logs" / f"{name}.log"

    def log_tail(self, name: str, line_count: int = 5, after: int = 0) -> list[str]:
        """The last lines of a program's log, from byte `after` on."""
        try:
            with self.log(name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(after if after <= size else 0, size - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if line.strip()][-line_count:]

    def stop_all(self) -> None:
        """End every program and supervisord, and whatever a crash of it left behind. Idempotent.

        The declarations stay: `start_daemon` brings the programs back.
        """
        if not self.home.exists():
            return
        with contextlib.ExitStack() as stack:
            # `down` has to work beside a command that hangs, and on a full disk.
            with contextlib.suppress(Conflict, Unavailable):
                stack.enter_context(self._locked(timeout_s=15.0))
            with contextlib.suppress(Unavailable, xmlrpc.client.Fault):
                # One that is frozen is not asked what takes long.
                self._control.call("getState", timeout_s=_GRACE_S)
                self._control.call("stopAllProcesses", False)
                self._wait_until_ended()
                self._control.call("shutdown")
                # Questions keep it awake: it looks at what it has to do once a second, and after each of them.
                for _ in _until(_GRACE_S):
                    self._control.call("getState", timeout_s=_GRACE_S)
            self._end_leftovers()

    def _locked(self, timeout_s: float = 60.0) -> contextlib.AbstractContextManager[None]:
        return locks.held(self._folder / "lock", timeout_s)

    def _path(self, name: str) -> Path:
        return self._conf_d / f"{programs.checked(name)}.conf"

    def _stop_wait_s(self) -> float:
        with contextlib.suppress(HeadraceError):
            return max((program.stop_wait_s for program in self.declared()), default=0) + 10.0
        return 30.0

    def _ensure_daemon(self) -> None:
        try:
            self._control.call("getState")
            return
        except control.DaemonDown:
            self._end_leftovers()
        daemon.launch(self.home, self._control.address, {leftovers.HOME_MARK: self._identity})
        for _ in _until(_START_S):
            with contextlib.suppress(control.DaemonDown):
                self._control.call("getState")
                return
        raise Unavailable(f"supervisord does not answer; see {self.home / 'logs' / 'supervisord.log'}")

    def _end_leftovers(self) -> None:
        """supervisord goes first: it would start again what is ended under its hands."""
        leftovers.end(lambda: leftovers.daemons(self._identity), grace_s=_GRACE_S)
        leftovers.end(lambda: leftovers.tethered(self._identity), grace_s=_GRACE_S)

    def _follow_files(self) -> bool:
        """Bring what runs in line with the files; whether anything had to be done."""
        try:
            added, changed, removed = self._control.call("reloadConfig")[0]
        except xmlrpc.client.Fault as refused:
            raise UsageError(f"{self._conf_d}: {refused.faultString}") from refused
        for name in (*changed, *removed):
            self._stop(name)
            self._control.call("removeProcessGroup", name)
        for name in (*added, *changed):
            with _tolerated(control.ALREADY_ADDED):
                self._control.call("addProcessGroup", name)
            # On its own it would start at supervisord's next turn, up to a second later.
            self._wake(name)
        return bool(added or changed or removed)

    def _wake(self, name: str) -> bool:
        with _tolerated(control.ALREADY_STARTED):
            self._control.call("startProcess", name, False)
            return True
        return False

    def _stop(self, name: str) -> None:
        with _tolerated(control.NOT_RUNNING):
            self._control.call("stopProcess", name, False)
        self._wait_until_ended(name)

    def _wait_until_ended(self, name: str | None = None) -> None:
        """supervisord could wait itself, but would see the end up to a second late: it wakes up for a question."""
        for _ in _until(self._stop_wait_s()):
            infos = self._control.call("getAllProcessInfo")
            if not any(info["pid"] for info in infos if name in (None, info["name"])):
                return
        raise Unavailable(f"{name or 'a program'} does not end; `headrace down` ends it in any case")

    def _state(self, info: Mapping[str, Any]) -> ProcessState:
        state = _STATES.get(info["statename"], "unknown")
        if state in ("starting", "running"):
            return ProcessState(info["name"], state, info["pid"], float(info["now"] - info["start"]))
        if state in ("stopping", "stopped"):
            return ProcessState(info["name"], state, info["pid"] or None)
        ended = f"exit status {info['exitstatus']}" if info["exitstatus"] >= 0 else "ended by a signal"
        why = "\n".join([info["spawnerr"] or ended, *self.log_tail(info["name"])])
        return ProcessState(info["name"], state, why=why)


def _until(timeout_s: float) -> Iterator[None]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        time.sleep(_POLL_S)


@contextlib.contextmanager
def _tolerated(code: int) -> Iterator[None]:
    """A refusal that says that there is nothing to do is no error."""
    try:
        yield
    except xmlrpc.client.Fault as refused:
        if refused.faultCode == control.BAD_NAME:
            raise UsageError(f"{refused.faultString.removeprefix('BAD_NAME: ')!r} is not declared") from refused
        if refused.faultCode != code:
            raise Unavailable(f"supervisord refuses: {refused.faultString}") from refused
