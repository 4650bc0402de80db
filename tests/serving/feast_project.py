"""A project whose features Feast itself materialised, and Feast's own reading of them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from headrace.adapters.feast_store import FeastStore, online_store_url
from headrace.documents import read_contract
from headrace.domain.contract import Contract
from headrace.settings import Settings

ROOT = Path(__file__).parents[2]
NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)

FEATURES = {
    "load": {
        "load_pct": {"type": "float", "range": [0, 1000]},
        "waiting_count": {"type": "int", "range": [-(2**53), 2**53]},
        "is_open": {"type": "bool"},
        "keeper": {"type": "category", "values": ["a", "Zoë"]},
    },
    "health": {"pulse_hz": {"type": "float", "range": [0, 9]}},
}
ENTITIES = {"load": "site", "health": "machine"}
SITES = ["whole", "nulls", "bounds", "Zoë 🚲", "", "a" * 64, "old"]


def tables() -> dict[str, pd.DataFrame]:
    """The values over time; each has every type, null, zero and the ends of its type."""
    seen = [NOON - timedelta(hours=hours) for hours in (1, 2, 3, 0, 1, 1, 40)]
    load = pd.DataFrame(
        {
            "site": SITES,
            "load_pct": [12.5, None, 1.7e308, 0.0, -0.0, 5e-324, 1.0],
            "waiting_count": pd.array([3, None, -(2**53), 0, 2**53, -1, 1], dtype="Int64"),
            "is_open": pd.array([True, None, False, False, True, True, True], dtype="boolean"),
            "keeper": ["a", None, "", "Zoë", "a" * 200, "\x00", "a"],
            "seen": pd.to_datetime(seen, utc=True),
        }
    )
    earlier = load.assign(seen=load.seen - timedelta(hours=1), load_pct=99.0)
    health = pd.DataFrame({"machine": ["m"], "pulse_hz": [2.0], "seen": pd.to_datetime([NOON], utc=True)})
    return {"load": pd.concat([earlier, load]), "health": health}


def contract_document() -> dict[str, Any]:
    """The contract, as YAML has it."""
    rest = {"description": "", "missing": True}
    return {
        "model": "tiny",
        "description": "a model for tests",
        "task": "binary",
        "rows": {"source": "data/rows", "stage": "dvc.yaml", "key": "id", "decision_time": "at"},
        "label": {"name": "bad", "description": "", "time": "known_at", "delay_h": {"p10": 1, "p50": 1, "p90": 1}},
        "views": {
            view: {"entity": entity, "source": f"data/{view}.parquet", "time": "seen", "max_age_h": 24}
            for view, entity in ENTITIES.items()
        },
        "features": [
            {"name": name, "view": view, **feature, **rest}
            for view, features in FEATURES.items()
            for name, feature in features.items()
        ],
        "metric": "auc",
        "business_value": {"name": "caught", "unit": "pieces", "description": ""},
        "budgets": {"latency_ms_p99": 10, "size_mb": 1},
        "example": {name: None for features in FEATURES.values() for name in features},
    }


@dataclass(frozen=True)
class FeastProject:
    """A project with an online store."""

    settings: Settings
    contract: Contract
    store: FeastStore

    @property
    def root(self) -> Path:
        """Its folder."""
        return self.settings.root

    @property
    def url(self) -> str:
        """Its online store, for a service."""
        return online_store_url(self.settings)

    def write(self, changed: dict[str, pd.DataFrame]) -> None:
        """Replace source tables, and materialise what was known at noon."""
        for view, table in changed.items():
            table.to_parquet(self.root / "data" / f"{view}.parquet", index=False)
        self.store.materialise(self.contract, NOON)

    def feasts_answer(self, sites: Sequence[str], machine: str = "m") -> dict[str, list[Any]]:
        """What Feast's SDK finds: feature to values, and with ``__ts`` to times, in the order of the sites."""
        with self.store._session("reading") as opened:
            rows = [{"site": site, "machine": machine} for site in sites]
            answer = opened.get_online_features(features=opened.get_feature_service("tiny"), entity_rows=rows)
        return dict(answer.to_dict(include_event_timestamps=True))


def make_project(settings: Settings) -> FeastProject:
    """Make a project, apply its definitions and materialise its features."""
    project = prepare_project(settings)
    project.store.apply()
    project.write(tables())
    return project


def prepare_project(settings: Settings) -> FeastProject:
    """Make a project: contract and sources are there, and Feast does not know of them yet."""
    root = settings.root
    shutil.copytree(ROOT / "feature_repo", root / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data").mkdir()
    (root / "conf").mkdir()
    path = root / "models/tiny/contract.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(contract_document()))
    for view, table in tables().items():
        table.to_parquet(root / "data" / f"{view}.parquet", index=False)
    return FeastProject(settings, read_contract(path), FeastStore(settings))
