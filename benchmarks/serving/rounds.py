"""Rounds of measurement: every server in turn, several times over, so that none has the quiet minutes to itself."""

import http.client
import json
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.serving import machine
from benchmarks.serving.figures import Cell, Life
from benchmarks.serving.generator import Generator
from benchmarks.serving.model import ROW_COUNTS
from benchmarks.serving.running import Bench, Running, running
from benchmarks.serving.servers import Server
from benchmarks.serving.wire import write_requests
from headrace import telemetry
from headrace.errors import DataError, HeadraceError

CONNECTIONS = (1, 16, 64)
PEAK_CONNECTIONS = 16
OPEN_CONNECTIONS = 64
# The server whose open loop is repeated against the floor at the very same rate, and what that is called.
CONTROLLED, CONTROL = "headrace", "control"


@dataclass(frozen=True)
class Lengths:
    """How long each piece of load lasts, seconds."""

    warm: float = 0.2
    closed: float = 0.8
    open: float = 2.0


class Rounds:
    """The measurement, and what has come of it so far.

    Attributes:
        cells: one for each piece of load.
        failed: server to the reason why it has no figures, or no more of them.
    """

    def __init__(self, bench: Bench, generator: Generator, lengths: Lengths) -> None:
        self.cells: list[Cell] = []
        self.lives: list[Life] = []
        self.failed: dict[str, str] = {}
        self._bench = bench
        self._generator = generator
        self._lengths = lengths

    def measure(self, servers: Iterable[Server], floor: Server) -> None:
        """One round.

        Raises:
            DataError: a server's answer is wrong.
        """
        for server in servers:
            if server.name in self.failed:
                continue
            print(f"  {server.name}", file=sys.stderr)
            try:
                self._measure(server)
                if server.name == CONTROLLED:
                    self._control(floor)
            except DataError:
                raise
            except HeadraceError as problem:
                self.failed[server.name] = str(problem)
                print(f"  {server.name} failed: {problem}", file=sys.stderr)

    def _measure(self, server: Server) -> None:
        with running(server, self._bench) as up:
            for rows in ROW_COUNTS:
                self._loads(up, rows)
            memory_mb, dropped = up.process.memory_mb(), dropped_predictions(up)
        self.lives.append(Life(server.name, up.start_s, memory_mb, up.process.ending_cpu_s, dropped))

    def _loads(self, up: Running, rows: int) -> None:
        name, requests = up.server.name, self._bench.requests_of(up.server.name, rows)
        write_requests(requests, up.server.api.requests(self._bench.material, rows))
        self._generator.run(up.port, requests, 8, self._lengths.warm)
        peak = 0.0
        for connections in CONNECTIONS:
            peak = max(peak, self._cell(up, name, rows, connections, 0.0).load.per_s)
        self._cell(up, name, rows, OPEN_CONNECTIONS, peak / 2)

    def _cell(self, up: Running, name: str, rows: int, connections: int, rate: float) -> Cell:
        requests = self._bench.requests_of(up.server.name, rows)
        seconds = self._lengths.open if rate else self._lengths.closed
        before, stolen = up.process.account(), machine.stolen_s()
        load = self._generator.run(up.port, requests, connections, seconds, rate)
        used = up.process.account().since(before)
        stolen = machine.stolen_s() - stolen
        cell = Cell(name, rows, connections, rate, load, used.cpu_s, used.waited_s, stolen)
        self.cells.append(cell)
        return cell

    def _control(self, floor: Server) -> None:
        """The floor at the rate that Headrace was just asked at: what machine and generator add by themselves."""
        rates = {cell.rows: cell.rate for cell in self.cells if cell.server == CONTROLLED and cell.rate}
        with running(floor, self._bench) as up:
            for rows, rate in rates.items():
                write_requests(
                    self._bench.requests_of(floor.name, rows), floor.api.requests(self._bench.material, rows)
                )
                self._cell(up, CONTROL, rows, OPEN_CONNECTIONS, rate)

    def save(self, path: Path) -> None:
        """Keep every piece of load, for whoever wants to look closer."""
        document = {"cells": list(map(asdict, self.cells)), "lives": list(map(asdict, self.lives))}
        path.write_text(json.dumps(document | {"failed": self.failed}, indent=1))


def dropped_predictions(up: Running) -> int:
    """Predictions that Headrace's log has lost; 0 for all others."""
    if not up.server.name.startswith("headrace"):
        return 0
    with closing(http.client.HTTPConnection("127.0.0.1", up.port, timeout=10)) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(telemetry.LOG_DROPPED))
