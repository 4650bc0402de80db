"""What the world of a rollout is made of: versions, how they answer, and ports that can be watched and cut off."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from headrace.documents import plain
from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, Label, LabelDelay, Rows
from headrace.domain.lineage import ModelVersion
from tests import fakes

MODEL = "flight_delay"
BUDGET_S = 0.1

CONTRACT = plain(
    Contract(
        model=MODEL,
        description="Small",
        task="binary",
        rows=Rows("rows", "dvc.yaml", "id", "at"),
        label=Label("late", "Whether it was late", "known_at", LabelDelay(1, 1, 1)),
        features=(Feature("x", "int", "A number", range=(0, 100)),),
        metric="auc",
        business_value=BusinessValue("money", "euro", "What it is worth"),
        budgets=Budgets(latency_ms_p99=BUDGET_S * 1000, size_mb=1.0),
        example={"x": 1},
    )
)


class Killed(BaseException):
    """The driver is gone, as after SIGKILL: nothing of its own runs any more."""


def half(row: int) -> float:
    """Half of the rows below 0.5, half above it."""
    return 0.44 if row % 2 else 0.56


@dataclass(frozen=True)
class Behaviour:
    """How a version answers.

    Attributes:
        errors: share of answers with status 500.
        refusals: share of answers with status 400.
        slow: share of answers above the latency budget.
        bad: share of rows whose prediction is not finite.
        score: number of a row to its score, in service; the holdout's rows are scored by `half`.
        counted: whether its counters count.
    """

    errors: float = 0.0
    refusals: float = 0.0
    slow: float = 0.0
    bad: float = 0.0
    score: Callable[[int], float] = half
    counted: bool = True


class Registry(fakes.FakeModelRegistry):
    """Fetches what is not there yet, as the real one does: several drivers of a version may read it at once."""

    def download(self, version: ModelVersion, to: Path) -> Path:
        return to if to.exists() else super().download(version, to)


class Port:
    """A port whose every call goes through the world."""

    def __init__(self, name: str, real: Any, around: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._name, self._real, self._around = name, real, around

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._real, method)
        return lambda *given, **named: self._around(f"{self._name}.{method}", partial(real, *given, **named))
