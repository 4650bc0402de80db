"""A contract with two views, a store with values of both, and rows completed from it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from headrace.domain.contract import Budgets, BusinessValue, Contract, Feature, FeatureView, Label, LabelDelay, Rows
from serving.completion import Completed, Completion
from serving.online_store import open_store
from tests.serving.online_file import OnlineFile

Complete = Callable[..., Completed]
NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)
MAX_AGE_H = 6
FEATURES = (
    Feature("origin", "category", "", values=("JFK", "LGA"), missing=True),
    Feature("delay_min", "float", "", range=(-60, 600), missing=True, view="departures"),
    Feature("flight_count", "int", "", range=(0, 100), default=10, view="departures"),
    Feature("seat_count", "int", "", range=(0, 900), default=180, view="planes"),
    Feature("is_leased", "bool", "", default=False, view="planes"),
    Feature("maker", "category", "", values=("Airbus", "Boeing"), default="Boeing", view="planes"),
)

JFK = {"delay_min": 12.5, "flight_count": 30}
N1 = {"seat_count": 200, "is_leased": True, "maker": "Airbus"}
NO_DEPARTURES = {"delay_min": None, "flight_count": 10}
NO_PLANE = {"seat_count": 180, "is_leased": False, "maker": "Boeing"}


def contract(fallback: Literal["default", "refuse"] = "default") -> Contract:
    """Two views of two entities; the first entity is a feature as well."""
    view = {"source": "x.parquet", "time": "at", "max_age_h": MAX_AGE_H, "fallback": fallback}
    return Contract(
        model="late",
        description="",
        task="binary",
        rows=Rows("rows", "stage", "flight", "decided_at"),
        label=Label("late", "", "known_at", LabelDelay(1, 2, 3)),
        features=FEATURES,
        metric="auc",
        business_value=BusinessValue("caught", "min", ""),
        budgets=Budgets(5, 5),
        example={f.name: None for f in FEATURES},
        views={"departures": FeatureView("origin", **view), "planes": FeatureView("tail", **view)},
    )


def make_online(folder: Path) -> OnlineFile:
    """A store with an airport and a plane, known at noon."""
    file = OnlineFile(folder / "online.db")
    file.put("departures", "origin", "JFK", NOON, **JFK)
    file.put("planes", "tail", "N1", NOON, **N1)
    return file


class Online(Protocol):
    """A store, by its URL."""

    @property
    def url(self) -> str: ...


@contextmanager
def completing(online: Online) -> Iterator[Complete]:
    """Completes rows from the store, an hour after noon unless said otherwise, all on one event loop."""
    opened = open_store(online.url)
    with asyncio.Runner() as runner:

        def run(
            *rows: dict[str, Any],
            at_h: float = 1,
            deadline_s: float = 10,
            fallback: Any = "default",
            store: Any = opened,
        ) -> Completed:
            now = NOON + timedelta(hours=at_h)
            return runner.run(Completion(contract(fallback), store, deadline_s, lambda: now).complete(rows))

        async def close() -> None:
            opened.close()

        yield run
        runner.run(close())
