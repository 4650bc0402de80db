"""A server started, proved right, and ready to be loaded."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.serving.environments import BENCH, PEERS, python_of
from benchmarks.serving.model import ROW_COUNTS, TOLERANCE, Material
from benchmarks.serving.process import ServerProcess, descendants, set_niceness
from benchmarks.serving.servers import PORTS, Place, Server
from benchmarks.serving.wire import Request
from headrace.errors import DataError, Unavailable

_START_S = 180.0
_ANSWER_S = 60.0
_FIRST_PORT, _LAST_PORT = 24_000, 32_000


@dataclass
class Running:
    """A server that answers."""

    server: Server
    process: ServerProcess
    port: int
    start_s: float


@dataclass(frozen=True)
class Bench:
    """What all rounds share.

    Attributes:
        core: of the servers.
        niceness: of the servers.
    """

    material: Material
    core: int
    requests: Path
    niceness: int = 0

    def requests_of(self, name: str, rows: int) -> Path:
        """The generator's file of requests for a server."""
        return self.requests / f"{name}-{rows}"


def environment(server: Server, place: Place) -> dict[str, str]:
    """The variables of a server: nothing of the caller's but where programs are, and no calls home."""
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    kept["PATH"] = f"{place.python.parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {"DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0"}
    # The last is how Ray is told to stay on 127.0.0.1.
    quiet |= {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    bench = {"BENCH_MODEL": str(place.material), "BENCH_ENGINE": server.engine, "BENCH_PEERS": str(PEERS)}
    home = BENCH / "home"
    home.mkdir(exist_ok=True)
    return kept | quiet | bench | {"HOME": str(home)} | dict(server.environment(place))


def place_of(server: Server, material: Material, scratch: Path) -> Place:
    """Where a server is to be started."""
    kept = material.directory / server.name
    return Place(python_of(server.peer), free_ports(), scratch, kept, material.directory, BENCH / "bin")


def prepare(server: Server, material: Material) -> None:
    """Build a server's environment and write what it needs once.

    Raises:
        Unavailable: that can't be done.
    """
    place = place_of(server, material, Path(os.devnull))
    if server.prepare is None:
        return
    shutil.rmtree(place.kept, ignore_errors=True)
    ended = subprocess.run(
        server.prepare(place), env=environment(server, place), capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise Unavailable(f"its model could not be written: {ended.stderr.strip()[-300:]}")


@contextmanager
def running(server: Server, bench: Bench) -> Iterator[Running]:
    """Start a server, compare all its answers with the right ones, and end it with all it has started.

    Raises:
        Unavailable: it does not start.
        DataError: an answer is wrong.
    """
    scratch = Path(tempfile.mkdtemp(prefix="hb-"))
    try:
        place = place_of(server, bench.material, scratch)
        log = BENCH / "logs" / f"{server.name}.log"
        variables = environment(server, place)
        process = ServerProcess(
            server.command(place), bench.core, bench.niceness, variables, server.cwd or scratch, log
        )
        try:
            first = server.api.requests(bench.material, 1)[0]
            start_s = process.wait_until(lambda: _answers(place.port, first), _START_S)
            check(place.port, server, bench.material)
            # Some of its processes may have sessions of their own.
            for one in descendants():
                set_niceness(one.pid, bench.niceness)
            yield Running(server, process, place.port, start_s)
        finally:
            process.stop(server.grace_s)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _answers(port: int, request: Request) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return ask(port, [request])[0][0] == http.client.OK
    return False


def ask(port: int, requests: list[Request]) -> list[tuple[int, bytes, Mapping[str, str]]]:
    """Status, body and headers of the answers to some requests on one connection."""
    answers: list[tuple[int, bytes, Mapping[str, str]]] = []
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)) as connection:
        for request in requests:
            connection.request("POST", request.path, request.body, dict(request.headers))
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            answers.append((answer.status, answer.read(), headers))
    return answers


def check(port: int, server: Server, material: Material) -> None:
    """Compare the answers to every body with scikit-learn's predictions.

    Raises:
        DataError: one is wrong.
    """
    for rows in ROW_COUNTS:
        answers = ask(port, server.api.requests(material, rows))
        for i, (status, body, headers) in enumerate(answers):
            if status != http.client.OK:
                raise DataError(f"{server.name} answers {status} to body {i} of {rows} rows: {body[:300]!r}")
            expected = material.expected[rows][0 if server.engine == "fixed" else i]
            found = server.api.read(body, headers)
            # Asked this way round, NaN is wrong.
            if found.shape != expected.shape or not (np.abs(found - expected) <= TOLERANCE).all():
                raise DataError(f"{server.name} answers body {i} of {rows} rows with {found[:3]}, not {expected[:3]}")


def write_answers(material: Material) -> None:
    """The fixed answers, of the form and size of Headrace's."""
    for rows in ROW_COUNTS:
        predictions = [{"id": f"{i:032x}", "probability": p} for i, p in enumerate(material.expected[rows][0])]
        document = {"model": material.contract.model, "version": 1, "predictions": predictions}
        (material.directory / f"answer_{rows}.json").write_text(json.dumps(document, separators=(",", ":")))


def free_ports() -> int:
    """The first of PORTS neighbouring ports that can be had."""
    for first in range(_FIRST_PORT, _LAST_PORT, PORTS):
        if all(_can_have(first + i) for i in range(PORTS)):
            return first
    raise Unavailable(f"no {PORTS} neighbouring ports are free between {_FIRST_PORT} and {_LAST_PORT}")


def _can_have(port: int) -> bool:
    with closing(socket.socket()) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            one.listen()
        except OSError:
            return False
    return True
