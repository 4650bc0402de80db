"""What a feature store may show: nothing that was not known, nothing too old, every row, in order."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from headrace.adapters.feast_store import FeastStore
from headrace.documents import read_contract
from headrace.domain.contract import Contract
from headrace.errors import ContractError, DataError
from headrace.ports import FeatureStore
from headrace.settings import Settings
from tests import databases, fakes

ROOT = Path(__file__).parents[2]
NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)
MAX_AGE_H = 6


def document(model: str = "tiny", view: str = "load") -> dict[str, Any]:
    feature = {"type": "float", "description": "", "range": [0, 1000], "missing": True, "view": view}
    return {
        "model": model,
        "description": "a model for tests",
        "task": "binary",
        "rows": {"source": "data/rows", "stage": "dvc.yaml", "key": "id", "decision_time": "at"},
        "label": {"name": "bad", "description": "", "time": "known_at", "delay_h": {"p10": 1, "p50": 1, "p90": 1}},
        "views": {view: {"entity": "site", "source": "data/load.parquet", "time": "seen", "max_age_h": MAX_AGE_H}},
        "features": [
            {"name": "kind", "type": "category", "description": "", "values": ["a"]},
            {"name": f"{view}_pct", **feature},
        ],
        "metric": "auc",
        "business_value": {"name": "caught", "unit": "pieces", "description": ""},
        "budgets": {"latency_ms_p99": 10, "size_mb": 1},
        "example": {"kind": "a", f"{view}_pct": 1},
    }


def declare(root: Path, model: str = "tiny", view: str = "load") -> Contract:
    path = root / "models" / model / "contract.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document(model, view)))
    return read_contract(path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "feature_repo", tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conf").mkdir()
    (tmp_path / "data").mkdir()
    declare(tmp_path)
    return tmp_path


@pytest.fixture
def contract(project: Path) -> Contract:
    return read_contract(project / "models" / "tiny" / "contract.yaml")


FILES, SERVERS = "files", "Redis and PostgreSQL"


def settings_of(where: str, project: Path, request: pytest.FixtureRequest) -> Settings:
    """Files below the project, or servers with nothing in them."""
    settings = Settings(root=project, home=project / "home")
    if where == FILES:
        return settings
    server, database = request.getfixturevalue("redis"), request.getfixturevalue("postgres")
    with server.client() as client:
        client.flushall()
    return replace(settings, online_store=server.url(), feast_registry=databases.emptied(database))


Given = Callable[..., FeatureStore]


@pytest.fixture(params=["fake", FILES, SERVERS])
def given(request: pytest.FixtureRequest, project: Path) -> Given:
    """Makes a store that holds values: (site, hours from noon, value)."""

    def store(*values: tuple[str, float, float]) -> FeatureStore:
        table = pd.DataFrame(
            {
                "site": [site for site, _, _ in values],
                "seen": pd.to_datetime([NOON + timedelta(hours=hours) for _, hours, _ in values], utc=True),
                "load_pct": [float(value) for _, _, value in values],
            }
        )
        if request.param == "fake":
            return fakes.FakeFeatureStore({"load": table})
        table.to_parquet(project / "data" / "load.parquet", index=False)
        real = FeastStore(settings_of(request.param, project, request))
        real.apply()
        return real

    return store


def rows(*asked: tuple[str | None, float]) -> pd.DataFrame:
    """Rows that are decided on at a site, hours from noon."""
    return pd.DataFrame(
        {
            "id": [f"r{number}" for number in range(len(asked))],
            "at": pd.to_datetime([NOON + timedelta(hours=hours) for _, hours in asked], utc=True),
            "site": [site for site, _ in asked],
            "kind": "a",
        }
    )


def found(store: FeatureStore, contract: Contract, *asked: tuple[str | None, float]) -> list[float | None]:
    values = store.training_frame(contract, rows(*asked))["load_pct"]
    return [None if pd.isna(value) else value for value in values]


def test_the_latest_value_before_the_decision_is_found(given: Given, contract: Contract) -> None:
    assert found(given(("s", -3, 1), ("s", -1, 2)), contract, ("s", 0)) == [2]


def test_a_planted_future_value_never_leaks(given: Given, contract: Contract) -> None:
    store = given(("s", -1, 1), ("s", 1 / 3600, 999))
    assert found(store, contract, ("s", 0)) == [1]
    assert found(given(("s", 1 / 3600, 999)), contract, ("s", 0)) == [None]


def test_a_value_known_exactly_at_the_decision_counts(given: Given, contract: Contract) -> None:
    assert found(given(("s", -1, 1), ("s", 0, 2)), contract, ("s", 0)) == [2]


def test_an_expired_value_is_null_and_its_row_stays(given: Given, contract: Contract) -> None:
    store = given(("s", -MAX_AGE_H - 0.01, 1), ("t", -MAX_AGE_H, 2))
    assert found(store, contract, ("s", 0), ("t", 0)) == [None, 2]


def test_a_key_without_values_and_no_key_find_nothing(given: Given, contract: Contract) -> None:
    assert found(given(("s", -1, 1)), contract, ("nowhere", 0), (None, 0), ("s", 0)) == [None, None, 1]


def test_values_do_not_cross_keys(given: Given, contract: Contract) -> None:
    assert found(given(("s", -2, 1), ("t", -1, 2)), contract, ("s", 0), ("t", 0)) == [1, 2]


def test_rows_keep_their_order_their_number_and_their_columns(given: Given, contract: Contract) -> None:
    asked = rows(("s", 3), ("t", 0), ("s", 1), ("t", 0), ("s", 3)).set_axis([9, 3, 3, 1, 0])
    frame = given(("s", 0, 1), ("s", 2, 2), ("t", -1, 3)).training_frame(contract, asked)
    assert frame["load_pct"].tolist() == [2, 3, 1, 3, 2]
    assert frame["id"].tolist() == asked["id"].tolist()
    assert list(frame.columns) == [*asked.columns, "load_pct"]


def test_of_two_values_of_one_time_the_last_wins(given: Given, contract: Contract) -> None:
    assert found(given(("s", -1, 1), ("s", -1, 2)), contract, ("s", 0)) == [2]


def test_materialise_counts_the_keys_known_at_that_time(given: Given, contract: Contract) -> None:
    store = given(("s", -1, 1), ("u", 1, 3))
    assert store.materialise(contract, NOON) == {"load": 1}
    assert store.materialise(contract, NOON) == {"load": 1}
    assert store.materialise(contract, NOON + timedelta(hours=1)) == {"load": 2}


def test_applying_twice_changes_nothing(given: Given, contract: Contract) -> None:
    store = given(("s", -1, 1))
    store.apply()
    assert found(store, contract, ("s", 0)) == [1]


@pytest.fixture(params=[FILES, SERVERS])
def settings(request: pytest.FixtureRequest, project: Path) -> Settings:
    return settings_of(request.param, project, request)


@pytest.fixture
def feast(settings: Settings) -> FeastStore:
    return FeastStore(settings)


def write(project: Path, *values: tuple[str, float, float]) -> None:
    table = pd.DataFrame(values, columns=["site", "hours", "load_pct"])
    seen = NOON + pd.to_timedelta(table.pop("hours"), unit="h")
    table.assign(seen=seen, load_pct=table.load_pct.astype(float)).to_parquet(project / "data" / "load.parquet")


def online(store: FeastStore, *sites: str) -> list[float | None]:
    with store._session("reading") as opened:
        service = opened.get_feature_service("tiny")
        answer = opened.get_online_features(features=service, entity_rows=[{"site": site} for site in sites])
        return list(answer.to_dict()["load_pct"])


def test_online_values_are_those_known_at_that_time_also_when_going_back(
    project: Path, feast: FeastStore, contract: Contract
) -> None:
    write(project, ("s", -2, 1), ("s", 2, 2), ("t", 2, 3), ("u", -5, 4))
    feast.apply()
    feast.materialise(contract, NOON)
    assert online(feast, "s", "t", "u") == [1, None, 4]
    # Three hours later the value of "u" is older than the view's max_age_h.
    assert feast.materialise(contract, NOON + timedelta(hours=3)) == {"load": 2}
    assert online(feast, "s", "t", "u") == [2, 3, None]
    feast.materialise(contract, NOON)
    assert online(feast, "s", "t", "u") == [1, None, 4]


def test_a_view_that_no_contract_declares_is_removed(project: Path, feast: FeastStore) -> None:
    write(project, ("s", 0, 1))
    declare(project, "other", "pressure")
    feast.apply()
    shutil.rmtree(project / "models" / "other")
    feast.apply()
    with feast._session("reading") as opened:
        assert [view.name for view in opened.list_feature_views()] == ["load"]
        assert [service.name for service in opened.list_feature_services()] == ["tiny"]
        assert [source.name for source in opened.list_data_sources()] == ["load_source"]


def test_two_models_share_an_entity_but_not_a_view(project: Path, feast: FeastStore) -> None:
    declare(project, "other", "pressure")
    feast.apply()
    declare(project, "zoo", "load")
    with pytest.raises(ContractError, match=r"models/zoo/contract.yaml: views \['load'\] belong to another model"):
        feast.apply()


def test_missing_data_is_said_with_its_path(project: Path, feast: FeastStore, contract: Contract) -> None:
    feast.apply()
    with pytest.raises(DataError, match=r"features of tiny: .*load\.parquet"):
        feast.training_frame(contract, rows(("s", 0)))


def test_a_model_that_was_not_applied_is_said(project: Path, feast: FeastStore, contract: Contract) -> None:
    feast.apply()
    with pytest.raises(DataError, match="unknown"):
        feast.training_frame(replace(contract, model="unknown"), rows(("s", 0)))


def test_nothing_is_printed(project: Path, feast: FeastStore, contract: Contract, capfd: Any) -> None:
    write(project, ("s", 0, 1))
    feast.apply()
    feast.materialise(contract, NOON)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("settings", [FILES], indirect=True)
def test_values_equal_those_of_feasts_own_store(project: Path, feast: FeastStore) -> None:
    """On a random sample; Feast's own store drops rows that found nothing, ours keeps them as null."""
    import numpy as np
    from feast import FeatureStore as Feast
    from feast.repo_config import RepoConfig

    random = np.random.default_rng(7)
    hours = random.choice(np.arange(-2000, 2000), 300, replace=False) / 60
    write(project, *[(site, hour, value) for site, hour, value in zip("stu" * 100, hours, range(300), strict=True)])
    feast.apply()
    times = pd.to_datetime([NOON + timedelta(minutes=int(minute)) for minute in random.permutation(4000)[:60] - 2000])
    asked = pd.DataFrame({"id": range(60), "site": random.choice(["s", "t", "nowhere"], 60), "event_timestamp": times})
    with feast._session("comparing") as ours:
        service = ours.get_feature_service("tiny")
        asof = ours.get_historical_features(entity_df=asked, features=service).to_df().set_index("id")
        config = {name: value for name, value in ours.config.model_dump(by_alias=True).items() if value is not None}
    config["offline_store"] = {"type": "dask"}
    own = Feast(config=RepoConfig(**config)).get_historical_features(entity_df=asked, features=service).to_df()
    own = own.set_index("id")
    assert asof.index.tolist() == list(range(60))
    assert len(own) > 20
    pd.testing.assert_series_equal(asof.load_pct[own.index], own.load_pct)
    assert asof.load_pct.drop(own.index).isna().all()
