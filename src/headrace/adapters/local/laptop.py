"""The platform of one machine: MLflow, Traefik and the releases, started together and healed together."""

import time
from collections.abc import Callable
from http import HTTPStatus

from headrace.adapters.local import loopback, mlflow_server, ports, traefik
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.programs import Program
from headrace.errors import Unavailable
from headrace.settings import HOST, Settings, variable

# A cold start of MLflow imports for seconds and makes its database; on a busy machine that is most of a minute.
_HEALTHY_S = 120.0
_POLL_S = 0.2


class Laptop:
    """Starts, checks and stops what every model needs."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self._settings = settings
        self._processes = processes

    def start(self) -> bool:
        """Start what does not run yet; whether there was anything to do.

        Raises:
            Conflict: a port is taken by something that is not ours; nothing was started.
        """
        running = {state.name for state in self._processes.states() if state.state in ("running", "starting")}
        wanted = self._programs()
        ours = {getattr(self._settings, field) for fields in _PORTS.values() for field in fields}
        for program in wanted:
            if program.name not in running:
                self._require_free(program.name, ours)
        self._settings.home.mkdir(parents=True, exist_ok=True)
        self._processes.start_daemon()
        return sum(self._processes.declare(program) for program in wanted) > 0

    def wait(self, say: Callable[[str], None]) -> None:
        """Wait until everything answers.

        Raises:
            Unavailable: something does not; the message has the end of its log.
        """
        for name, url in self.health().items():
            began = time.monotonic()
            while not answers(url):
                self._require_alive(name)
                if time.monotonic() - began > _HEALTHY_S:
                    raise Unavailable(f"{name} does not answer within {_HEALTHY_S:g} s; {self._why(name)}")
                time.sleep(_POLL_S)
            say(f"{name} answers")

    def health(self) -> dict[str, str]:
        """Program to the address that answers 200 when it is well."""
        traefik_url = f"http://{HOST}:{self._settings.admin_port}/ping"
        ours = {} if self._settings.mlflow_uri else {mlflow_server.NAME: f"{self._settings.tracking_uri}/health"}
        return {traefik.NAME: traefik_url, **ours}

    def _require_free(self, name: str, ours: set[int]) -> None:
        # A program that was killed has, for a moment, children that listen: they end by themselves, and it comes back.
        left = self._processes.pids(name)
        for field in _PORTS[name]:
            port = getattr(self._settings, field)
            has = ports.holder(port) if left else None
            if has is None or has.pid not in left:
                ports.require_free(port, variable(field), ours)

    def _programs(self) -> list[Program]:
        programs = [traefik.program(self._settings)]
        if not self._settings.mlflow_uri:
            programs.append(
                Program(
                    name=mlflow_server.NAME,
                    command=mlflow_server.command(self._settings),
                    environment=mlflow_server.environment(),
                    cwd=self._settings.root,
                )
            )
        return programs

    def _require_alive(self, name: str) -> None:
        state = next((s for s in self._processes.states() if s.name == name), None)
        if state is None or state.state in ("failed", "stopped"):
            raise Unavailable(f"{name} does not start; {self._why(name)}")

    def _why(self, name: str) -> str:
        last = " / ".join(self._processes.log_tail(name, 3))
        return f"its log {self._processes.log(name)} ends with: {last or 'nothing'}"


_PORTS = {traefik.NAME: ("http_port", "admin_port"), mlflow_server.NAME: ("mlflow_port",)}


def answers(url: str) -> bool:
    """Whether a GET is answered with 200 within a second."""
    answer = loopback.get(url, 1.0)
    return answer is not None and answer.status == HTTPStatus.OK
