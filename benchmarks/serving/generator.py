"""The load generator's command and its line of results."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.process import pinned, set_niceness
from headrace.errors import HeadraceError


@dataclass(frozen=True)
class Latency:
    """Percentiles of a series, µs."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True)
class Load:
    """What came of some seconds of load.

    Attributes:
        due: requests that were to be sent.
        ok: answers with a status of 2xx.
        lost: every other request: another status, a broken connection, no answer within ten seconds.
        closed: connections that the server closed between two requests, which loses none.
        seconds: until the last answer.
        latency: from sending, in open loop from the moment at which the request was to be sent.
        lag: how late the generator itself sent a request for which a connection was free; open loop only.
        generator_waited_us: how long the generator was ready to run and another process had its core.
    """

    due: int
    ok: int
    lost: int
    closed: int
    first_bad_status: int
    seconds: float
    latency: Latency
    lag: Latency
    generator_waited_us: float

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.ok / self.seconds if self.seconds else 0.0


def parse(line: str) -> Load:
    """Read the generator's line.

    Raises:
        HeadraceError: it is none.
    """
    try:
        found = json.loads(line)
        return Load(
            due=found["due"],
            ok=found["ok"],
            lost=found["not_2xx"] + found["broken"] + found["unanswered"],
            closed=found["closed"],
            first_bad_status=found["first_bad_status"],
            seconds=found["seconds"],
            latency=_latency(found["latency_us"]),
            lag=_latency(found["lag_us"]),
            generator_waited_us=found["generator_waited_us"],
        )
    except (ValueError, KeyError, TypeError) as broken:
        raise HeadraceError(f"the load generator said {line[:200]!r}, which is no line of results") from broken


def _latency(found: dict[str, float]) -> Latency:
    return Latency(int(found["count"]), *(float(found[name]) for name in ("p50", "p90", "p99", "p99.9", "max")))


@dataclass(frozen=True)
class Generator:
    """The program, the core it runs on, and its niceness."""

    program: Path
    core: int
    niceness: int = 0

    def start(self, port: int, requests: Path, connections: int, seconds: float, rate: float) -> subprocess.Popen[str]:
        """Begin to load a server; `rate` in requests a second, 0 for a closed loop."""
        command = [str(self.program), str(port), str(requests), str(connections), f"{seconds:g}", f"{rate:.3f}"]
        with pinned(self.core):
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        set_niceness(process.pid, self.niceness)
        return process

    def run(self, port: int, requests: Path, connections: int, seconds: float, rate: float = 0.0) -> Load:
        """Load a server and wait for the end.

        Raises:
            HeadraceError: the generator failed, as it does when the server is gone.
        """
        return finish(self.start(port, requests, connections, seconds, rate))


def finish(process: subprocess.Popen[str]) -> Load:
    """Wait for a generator.

    Raises:
        HeadraceError: it failed.
    """
    output, problem = process.communicate()
    if process.returncode:
        raise HeadraceError(f"the load generator ended with {process.returncode}: {problem.strip()[:300]}")
    return parse(output)
