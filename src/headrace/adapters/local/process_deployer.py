"""The Deployer port on this machine: one supervised process a model version."""

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from headrace.adapters import service_log
from headrace.adapters.feast_store import online_store_url
from headrace.adapters.local import locks, loopback, ports
from headrace.adapters.local.processes import Processes, ProcessState
from headrace.adapters.local.programs import Program
from headrace.domain.lineage import ModelVersion, kebab, release_name
from headrace.errors import Unavailable
from headrace.ports import Endpoint
from headrace.settings import HOST, Settings

Command = Callable[[Path, int], tuple[str, ...]]

_LOCK_S = 60.0
_PROBE_S = 1.0
# To drain, to answer what has begun, and to write the log.
_STOP_WAIT_S = 60
_POLL_S = 0.05


def serving_command(directory: Path, port: int, options: Sequence[str] = ()) -> tuple[str, ...]:
    """What runs a model directory."""
    place = ("--directory", str(directory), "--host", HOST, "--port", str(port))
    return (sys.executable, "-m", "serving", *place, *options)


def service_options(settings: Settings) -> tuple[str, ...]:
    """What a service of this machine keeps, and where it finds features by key."""
    options = ["--prediction-log", str(settings.home / "predictions"), "--online-store", online_store_url(settings)]
    if settings.prediction_log:
        options += ["--prediction-log-to", settings.prediction_log]
    return tuple(options)


class ProcessDeployer:
    """Model services as programs of `Processes`, named like the release, each on a port of its own.

    Args:
        settings: says where the project is and which ports are for releases.
        processes: keeps them alive.
        command: the service for a model directory; has to contain ``--port PORT``, where the port is read from again.
            By default the real one, with all that this machine has for it.
        environment: for the service, besides what every program gets.
    """

    def __init__(
        self,
        settings: Settings,
        processes: Processes,
        command: Command | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._processes = processes
        self._command = command or partial(serving_command, options=service_options(settings))
        self.environment = environment or {}

    def start(self, version: ModelVersion, directory: Path, timeout_s: float) -> Endpoint:
        """Run a version and wait until it is ready. Idempotent: one that runs is only looked at.

        Raises:
            Unavailable: it stopped, or is not ready in time; the message has the last words of its log, and the
                program is gone.
        """
        name = version.release
        log = self._processes.log(name)
        log_bytes = log.stat().st_size if log.exists() else 0
        with locks.held(self._settings.home / "supervisor" / "ports.lock", _LOCK_S):
            port = self._port(name)
            command = self._command(directory, port)
            program = Program(name, command, self._settings.root, self.environment, stop_wait_s=_STOP_WAIT_S)
            if not self._processes.declare(program) and self._failing(name):
                self._processes.restart(name)
        endpoint = Endpoint(version.model, version.version, f"http://{HOST}:{port}", ready=True)
        problem = self._wait_until_ready(name, endpoint.url, timeout_s)
        if problem is None:
            return endpoint
        said = service_log.reason(self._processes.log_tail(name, line_count=20, after=log_bytes))
        self._processes.remove(name)
        raise Unavailable(f"{name} {problem}: {said or 'its log says nothing'}")

    def stop(self, model: str, version: int) -> None:
        """Let a version answer what it has begun, and end it. Idempotent."""
        self._processes.remove(release_name(model, version))

    def running(self, model: str) -> Sequence[Endpoint]:
        """Every declared version of a model, oldest first, and whether it says that it is ready."""
        pattern = re.compile(re.escape(kebab(model)) + r"-v(\d+)")
        found = []
        for program in self._processes.declared():
            match = pattern.fullmatch(program.name)
            if match:
                url = f"http://{HOST}:{_port_of(program)}"
                found.append(Endpoint(model, int(match[1]), url, ready=_ready(url)))
        return sorted(found, key=lambda endpoint: endpoint.version)

    def _port(self, name: str) -> int:
        """The port that a program had, if nobody else took it since; else a free one."""
        has = {program.name: _port_of(program) for program in self._processes.declared() if "--port" in program.command}
        own = has.pop(name, None)
        if own is not None:
            listener = ports.holder(own)
            if listener is None or listener.pid == self._state(name).pid:
                return own
        return ports.next_free(self._settings.release_ports, set(has.values()))

    def _state(self, name: str) -> ProcessState:
        states = {state.name: state for state in self._processes.states()}
        return states.get(name, ProcessState(name, "stopped", why="it is not declared"))

    def _failing(self, name: str) -> bool:
        return self._state(name).state in ("backoff", "failed", "exited")

    def _wait_until_ready(self, name: str, url: str, timeout_s: float) -> str | None:
        """None once it is ready, else what went wrong."""
        deadline = time.monotonic() + timeout_s
        first_pid = self._state(name).pid
        while True:
            state = self._state(name)
            if state.state in ("backoff", "failed", "exited", "stopped") or state.pid != first_pid:
                return "stopped while it started"
            if _ready(url):
                return None
            if time.monotonic() >= deadline:
                return f"is not ready within {timeout_s:g} s"
            time.sleep(_POLL_S)


def _port_of(program: Program) -> int:
    return int(program.command[program.command.index("--port") + 1])


def _ready(url: str) -> bool:
    answer = loopback.get(f"{url}/v2/health/ready", _PROBE_S)
    return answer is not None and answer.status == 200
