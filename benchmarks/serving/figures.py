"""What was measured, and its medians over the rounds. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from benchmarks.serving.generator import Latency, Load

# Of fewer answers the last thousandth is no share of them.
ENOUGH_FOR_P999 = 1000


@dataclass(frozen=True)
class Cell:
    """One piece of load.

    Attributes:
        rate: requests a second in open loop; 0 is a closed loop.
        cpu_s: processor time of all processes of the server.
        waited_s: time that threads of the server were ready to run and did not.
        stolen_s: time that the host took from the machine.
    """

    server: str
    rows: int
    connections: int
    rate: float
    load: Load
    cpu_s: float
    waited_s: float
    stolen_s: float

    @property
    def cpu_us(self) -> float:
        """Processor time an answer, µs."""
        return self.cpu_s / self.load.ok * 1e6 if self.load.ok else float("inf")


@dataclass(frozen=True)
class Life:
    """A server's start, its memory after load, and its end.

    Attributes:
        start_s: until the first right answer.
        memory_mb: proportional set size of all its processes.
        ending_cpu_s: processor time from being told to end until it had ended.
        dropped: predictions that its log has lost; Headrace only.
    """

    server: str
    start_s: float
    memory_mb: float
    ending_cpu_s: float
    dropped: int = 0


@dataclass(frozen=True)
class Closed:
    """A closed loop with so many connections: medians over the rounds."""

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Open:
    """An open loop at half the peak: medians over the rounds; the worst of the rounds for `worst_ms`.

    Attributes:
        p999_ms: None when a round had too few answers for it.
        lag_p99_ms: how late the generator was by itself.
        waited_share: share of the time that the server was ready to run and did not.
    """

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    p999_ms: float | None
    worst_ms: float
    lag_p99_ms: float
    waited_share: float


@dataclass(frozen=True)
class Figures:
    """One server with requests of so many rows.

    Attributes:
        closed: connections to figures.
        peak: the connections with the most answers a second.
        lost: requests of all rounds that got no answer of 2xx.
    """

    closed: Mapping[int, Closed]
    peak: int
    open: Open | None
    lost: int

    @property
    def answered(self) -> bool:
        """Whether there is a peak to speak of."""
        return bool(self.closed) and self.per_s > 0

    @property
    def per_s(self) -> float:
        """Answers a second at the peak."""
        return self.closed[self.peak].per_s

    @property
    def cpu_us(self) -> float:
        """Processor time an answer at the peak, µs: the first metric of all."""
        return self.closed[self.peak].cpu_us


@dataclass(frozen=True)
class Swaps:
    """The directory loaded again and again under load, within `took_s` seconds."""

    count: int
    took_s: float
    rate: float
    load: Load


@dataclass(frozen=True)
class Results:
    """Everything that the page says.

    Attributes:
        figures: server and rows to its figures.
        lives: server to its start, memory and end, medians.
        failed: server to the reason why it has no figures.
        swaps: None when they were not tried.
        profile: library to percent of Headrace's processor time, one row a request; empty when there is none.
        engines: engine and rows to the processor time of one prediction without a server, µs.
    """

    figures: Mapping[tuple[str, int], Figures]
    lives: Mapping[str, Life]
    failed: Mapping[str, str]
    swaps: Swaps | None = None
    profile: Mapping[str, float] = field(default_factory=dict)
    engines: Mapping[tuple[str, int], float] = field(default_factory=dict)


def summarise(cells: Iterable[Cell], lives: Iterable[Life], failed: Mapping[str, str]) -> Results:
    """Medians over the rounds."""
    by_workload: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        by_workload.setdefault((cell.server, cell.rows), []).append(cell)
    by_server: dict[str, list[Life]] = {}
    for life in lives:
        by_server.setdefault(life.server, []).append(life)
    return Results(
        figures={key: _figures(some) for key, some in by_workload.items()},
        lives={name: _life(name, some) for name, some in by_server.items()},
        failed=dict(failed),
    )


def _figures(cells: list[Cell]) -> Figures:
    closed_cells: dict[int, list[Cell]] = {}
    for cell in cells:
        if not cell.rate:
            closed_cells.setdefault(cell.connections, []).append(cell)
    closed = {connections: _closed(some) for connections, some in sorted(closed_cells.items())}
    opened = [cell for cell in cells if cell.rate]
    return Figures(
        closed=closed,
        peak=max(closed, key=lambda connections: closed[connections].per_s) if closed else 0,
        open=_open(opened) if opened else None,
        lost=sum(cell.load.lost for cell in cells),
    )


def _closed(cells: list[Cell]) -> Closed:
    return Closed(
        per_s=median(cell.load.per_s for cell in cells),
        cpu_us=median(cell.cpu_us for cell in cells),
        p50_ms=_median_ms(cells, lambda latency: latency.p50),
        p99_ms=_median_ms(cells, lambda latency: latency.p99),
    )


def _open(cells: list[Cell]) -> Open:
    enough = all(cell.load.latency.count >= ENOUGH_FOR_P999 for cell in cells)
    return Open(
        rate=median(cell.rate for cell in cells),
        cpu_us=median(cell.cpu_us for cell in cells),
        p50_ms=_median_ms(cells, lambda latency: latency.p50),
        p99_ms=_median_ms(cells, lambda latency: latency.p99),
        p999_ms=_median_ms(cells, lambda latency: latency.p999) if enough else None,
        worst_ms=max(cell.load.latency.max for cell in cells) / 1000,
        lag_p99_ms=median(cell.load.lag.p99 for cell in cells) / 1000,
        waited_share=median(cell.waited_s / cell.load.seconds if cell.load.seconds else 0.0 for cell in cells),
    )


def _median_ms(cells: list[Cell], percentile: Callable[[Latency], float]) -> float:
    return median(percentile(cell.load.latency) for cell in cells) / 1000


def _life(name: str, lives: list[Life]) -> Life:
    return Life(
        server=name,
        start_s=median(life.start_s for life in lives),
        memory_mb=median(life.memory_mb for life in lives),
        ending_cpu_s=median(life.ending_cpu_s for life in lives),
        dropped=sum(life.dropped for life in lives),
    )
