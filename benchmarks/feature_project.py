"""A project with two models whose features Feast has materialised, for benchmarks.features."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from headrace.adapters.feast_store import FeastStore, online_store_url
from headrace.documents import read_contract
from headrace.domain.contract import Contract, Feature
from headrace.settings import Settings

ROOT = Path(__file__).parents[1]
WIDE_VIEWS, WIDE_FEATURES, WIDE_KEYS = 5, 10, 10_000
FLIGHT_KEYS = {
    "origin": ["EWR", "JFK", "LGA"],
    "carrier": ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"],
    "tailnum": [f"N{number:05d}" for number in range(4_000)],
}
WIDE = "wide"
PRECOMPUTED = "wide_precomputed"
NULL_SHARE = 0.05


@dataclass(frozen=True)
class Project:
    """The project, and what its models' entities may be."""

    settings: Settings
    contracts: Mapping[str, Contract]
    keys: Mapping[str, Mapping[str, list[str]]]

    @property
    def url(self) -> str:
        """The online store, for the service."""
        return online_store_url(self.settings)

    @property
    def store(self) -> FeastStore:
        """What materialises."""
        return FeastStore(self.settings)

    def rows(self, model: str, count: int, random: np.random.Generator) -> list[dict[str, str]]:
        """Keys of as many rows, no row like another where there are enough keys."""
        columns = {
            entity: random.choice(keys, count, replace=len(keys) < count).tolist()
            for entity, keys in self.keys[model].items()
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def write_sources(self, model: str, seen: datetime, random: np.random.Generator) -> None:
        """Random values for every key of a model's views, known from then on."""
        contract = self.contracts[model]
        for name, view in contract.views.items():
            entities = self.keys[model][view.entity]
            columns: dict[str, Any] = {view.entity: entities, view.time: pd.to_datetime([seen] * len(entities))}
            for feature in contract.view_features(name):
                columns[feature.name] = _values(feature, len(entities), random)
            path = self.settings.root / view.source
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(columns).to_parquet(path, index=False)

    def write_at_once(self, keys: int | None) -> None:
        """How many keys of a view Feast writes in one transaction; None is all of them, and Feast's default."""
        path = self.settings.root / "feature_repo/feature_store.yaml"
        config = yaml.safe_load(path.read_text())
        config["materialization"] = {"online_write_batch_size": keys} if keys else {}
        path.write_text(yaml.safe_dump(config))


def make(root: Path, now: datetime, online_store: str = "") -> Project:
    """Make the project and materialise everything as known now; the values are random, and an hour old.

    Args:
        root: where everything is.
        now: until when values are known.
        online_store: URL of a Redis; without one it is a file.
    """
    shutil.copytree(ROOT / "feature_repo", root / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    flights = root / "models/flight_delay/contract.yaml"
    flights.parent.mkdir(parents=True)
    shutil.copy(ROOT / "models/flight_delay/contract.yaml", flights)
    wide = root / "models" / WIDE / "contract.yaml"
    wide.parent.mkdir()
    wide.write_text(yaml.safe_dump(_wide()))
    contracts = {path.parent.name: read_contract(path) for path in (flights, wide)}
    keys = {"flight_delay": FLIGHT_KEYS, WIDE: {"site": [f"site{number:05d}" for number in range(WIDE_KEYS)]}}
    project = Project(Settings(root=root, home=root / "home", online_store=online_store), contracts, keys)
    random = np.random.default_rng(0)
    for model in contracts:
        project.write_sources(model, now - timedelta(hours=1), random)
    project.store.apply()
    for contract in contracts.values():
        project.store.materialise(contract, now)
    return project


def _values(feature: Feature, count: int, random: np.random.Generator) -> Any:
    if feature.type != "float" or feature.range is None:
        raise ValueError(f"feature {feature.name!r}: the benchmark makes floats only")
    return np.where(random.random(count) < NULL_SHARE, np.nan, random.uniform(*feature.range, count))


def _wide() -> dict[str, Any]:
    """A contract of many features of one entity."""
    names = {f"v{view}": [f"v{view}_{i}" for i in range(WIDE_FEATURES)] for view in range(WIDE_VIEWS)}
    feature = {"type": "float", "description": "any", "range": [-9, 9], "missing": True}
    return {
        "model": WIDE,
        "description": "many features",
        "task": "binary",
        "rows": {"source": "data/rows", "stage": "dvc.yaml", "key": "id", "decision_time": "at"},
        "label": {"name": "bad", "description": "any", "time": "known", "delay_h": {"p10": 1, "p50": 1, "p90": 1}},
        "views": {
            view: {"entity": "site", "source": f"data/{view}.parquet", "time": "seen", "max_age_h": 48}
            for view in names
        },
        "features": [{"name": name, "view": view, **feature} for view, some in names.items() for name in some],
        "metric": "auc",
        "business_value": {"name": "any", "unit": "any", "description": "any"},
        "budgets": {"latency_ms_p99": 50, "size_mb": 5},
        "example": {name: 0 for some in names.values() for name in some},
    }


def feast_store(project: Project) -> Any:
    """Feast's own store object of the project, as its users open it."""
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    repository = project.settings.root / "feature_repo"
    config = yaml.safe_load((repository / "feature_store.yaml").read_text())
    config["registry"]["path"] = str(project.settings.home / "feast/registry.db")
    config["online_store"]["path"] = str(project.settings.home / "feast/online.db")
    return FeatureStore(config=RepoConfig(**config, repo_path=repository))


def precompute(store: Any) -> Any:
    """A service of the wide model whose vectors are precomputed, and the vectors.

    Feast 0.67 itself precomputes in Redis only: it lists keys nowhere else. Its store classes write and read vectors
    everywhere, so what `precompute_feature_service` would have written is written here with them.
    """
    from feast import FeatureService

    views = [store.get_feature_view(f"v{view}") for view in range(WIDE_VIEWS)]
    service = FeatureService(name=PRECOMPUTED, features=views, precompute_online=True)
    store.apply([service])
    _write_vectors(store, views)
    return store.get_feature_service(PRECOMPUTED)


def _write_vectors(store: Any, views: list[Any]) -> None:
    from feast import FeatureView, Field
    from feast.protos.feast.core.PrecomputedFeatureVector_pb2 import FeatureViewTimestamp, PrecomputedFeatureVector
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.types import Bytes

    online, config = store._get_provider().online_store, store.config
    fields = [Field(name="vector", dtype=Bytes)]
    table = FeatureView(name=f"__precomputed__{PRECOMPUTED}", entities=[], schema=fields, source=None)
    online.update(config, [], [table], [], [], True)
    names = [f"{view.name}__{feature.name}" for view in views for feature in view.features]
    sites = [EntityKey(join_keys=["site"], entity_values=[Value(string_val=f"site{i:05d}")]) for i in range(WIDE_KEYS)]
    data = []
    now = datetime.now(UTC)
    for start in range(0, WIDE_KEYS, 500):
        some = sites[start : start + 500]
        found = [online.online_read(config, view, some) for view in views]
        for position, site in enumerate(some):
            vector = PrecomputedFeatureVector(feature_names=names)
            vector.precomputed_at.FromDatetime(now)
            for view, rows in zip(views, found, strict=True):
                at, values = rows[position]
                stamp = FeatureViewTimestamp(feature_view_name=view.name)
                stamp.event_timestamp.FromDatetime(at)
                vector.fv_timestamps.append(stamp)
                vector.values.extend(values[feature.name] for feature in view.features)
            data.append((site, {"vector": Value(bytes_val=vector.SerializeToString())}, now, None))
    online.online_write_batch(config, table, data, None)
