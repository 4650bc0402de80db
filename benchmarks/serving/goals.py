"""What the model service is to reach beside its peers, as ratios within one run. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.serving.figures import Results

HEADRACE, BINARY, ASGI, CONTROL = "headrace", "headrace-oip-binary", "asgi", "control"
# Beside the peers' own names.
_TITLES = {
    "mlflow": "mlflow models serve",
    "mlserver": "MLServer",
    "mlserver-batching": "MLServer with batching",
    "bentoml": "BentoML",
    "litserve": "LitServe",
    "kserve": "KServe Python",
    "naive": "naive FastAPI",
}


@dataclass(frozen=True)
class Goal:
    """One number to reach.

    Attributes:
        name: its key in reasons.yaml.
        text: what is measured.
        bound: what it has to be at most, or at least.
        measure: what it is; None when a server that it needs was not measured.
    """

    name: str
    text: str
    bound: float
    at_least: bool
    unit: str
    measure: Callable[[Results], float | None]

    @property
    def wanted(self) -> str:
        """The bound in words."""
        sign = "≥ " if self.at_least else "≤ " if self.bound else ""
        return f"{sign}{number(self.bound)}{self.unit}"


@dataclass(frozen=True)
class Verdict:
    """A goal and what came of it; `met` is None when it was not measured."""

    goal: Goal
    value: float | None
    met: bool | None
    reason: str

    @property
    def found(self) -> str:
        """The value in words."""
        return "" if self.value is None else f"{number(self.value)}{self.goal.unit}"


def number(value: float) -> str:
    """A number with as many places as it deserves."""
    if value == int(value) and abs(value) < 1000:
        return f"{value:.0f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def judge(goals: list[Goal], results: Results, reasons: Mapping[str, str]) -> list[Verdict]:
    """Every goal, with the reason that is kept for it when it was missed."""
    verdicts = []
    for goal in goals:
        value = goal.measure(results)
        met = None if value is None else (value >= goal.bound if goal.at_least else value <= goal.bound)
        reason = reasons.get(goal.name, "") if met is False else ""
        verdicts.append(Verdict(goal, value, met, reason))
    return verdicts


def per_cpu(fast: str, slow: str, rows: int) -> Callable[[Results], float | None]:
    """How many times the requests a CPU-second of one server are those of another, each at its own peak."""

    def measure(results: Results) -> float | None:
        one, other = results.figures.get((fast, rows)), results.figures.get((slow, rows))
        if one is None or other is None or not one.answered or not other.answered:
            return None
        return other.cpu_us / one.cpu_us

    return measure


def _p99_ms(results: Results) -> float | None:
    figures = results.figures.get((HEADRACE, 1))
    return figures.open.p99_ms if figures and figures.open else None


def _p99_to_control(results: Results) -> float | None:
    control, ours = results.figures.get((CONTROL, 1)), _p99_ms(results)
    return ours / control.open.p99_ms if ours is not None and control and control.open else None


def _start_s(results: Results) -> float | None:
    return results.lives[HEADRACE].start_s if HEADRACE in results.lives else None


def _memory_mb(results: Results) -> float | None:
    return results.lives[HEADRACE].memory_mb if HEADRACE in results.lives else None


def _lost_in_swaps(results: Results) -> float | None:
    return float(results.swaps.load.lost) if results.swaps else None


def _lost(results: Results) -> float | None:
    ours = [figures.lost for (name, _), figures in results.figures.items() if name.startswith(HEADRACE)]
    return float(sum(ours)) if ours else None


def _dropped(results: Results) -> float | None:
    ours = [life.dropped for name, life in results.lives.items() if name.startswith(HEADRACE)]
    return float(sum(ours)) if ours else None


def _beside(rows: int, peer: str, bound: float, engine: str = "as shipped") -> Goal:
    same = engine != "as shipped"
    name = f"{rows}_rows_vs_{peer}{'_same_engine' if same else ''}"
    what = "one row" if rows == 1 else f"{rows} rows"
    title = f"{_TITLES[peer]}, {engine}"
    server = f"{peer}-onnx" if same else peer
    text = f"{what}: requests a CPU-second beside {title}"
    return Goal(name, text, bound, True, " x", per_cpu(HEADRACE, server, rows))


def goals() -> list[Goal]:
    """All goals."""
    same = "the same ONNX engine inside"
    to_asgi = per_cpu(ASGI, HEADRACE, 1)
    return [
        Goal("1_rows_vs_asgi", "one row: CPU a request beside raw ASGI on uvicorn", 2.5, False, " x", to_asgi),
        *(_beside(1, peer, 20.0) for peer in ("mlflow", "bentoml", "litserve", "kserve", "mlserver")),
        _beside(1, "naive", 12.0),
        _beside(1, "mlserver-batching", 6.0),
        _beside(1, "naive", 2.5, same),
        *(_beside(1, peer, 5.0, same) for peer in ("kserve", "mlserver")),
        *(_beside(1, peer, 15.0, same) for peer in ("litserve", "bentoml")),
        *(_beside(100, peer, 5.0) for peer in ("mlflow", "bentoml", "litserve", "kserve")),
        _beside(100, "mlserver-batching", 2.0),
        Goal(
            "binary_vs_json",
            "100 rows: requests a CPU-second by OIP binary beside our JSON",
            1.4,
            True,
            " x",
            per_cpu(BINARY, HEADRACE, 100),
        ),
        Goal("p99", "one row: p99 at half the peak, 64 connections, open loop", 3.0, False, " ms", _p99_ms),
        Goal("p99_to_control", "the same beside the C server at the same rate", 3.0, False, " x", _p99_to_control),
        Goal("lost", "requests lost in all rounds", 0.0, False, "", _lost),
        Goal("lost_in_swaps", "requests lost in 100 hot swaps at half the peak", 0.0, False, "", _lost_in_swaps),
        Goal("dropped", "predictions that the log lost", 0.0, False, "", _dropped),
        Goal("start", "start to first answer", 2.0, False, " s", _start_s),
        Goal("memory", "memory of a worker after load", 100.0, False, " MB", _memory_mb),
    ]
