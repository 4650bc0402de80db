"""The online store as Feast writes it: equal to Feast's own reading, in a file and in Redis."""

import asyncio
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.errors import UsageError
from headrace.settings import Settings
from serving import feast_sqlite
from serving.completion import Completion
from serving.feast_redis import Address, FeastRedisStore
from serving.online_store import Asked, Stored, open_store
from tests import databases
from tests.serving.feast_project import FEATURES, NOON, ROOT, SITES, FeastProject, make_project, tables
from tests.serving.reading import exact, reading

UNKNOWN = [*SITES, "nowhere"]
LOAD = frozenset(FEATURES["load"])
HEALTH = frozenset(FEATURES["health"])


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.Redis]:
    """A Redis for the tests of this file; each project has a database of its own."""
    with databases.redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def settings_of(where: str, root: Path, request: pytest.FixtureRequest, database: int) -> Settings:
    """A project's, with an online store of its own."""
    url = request.getfixturevalue("redis").url(database) if where == "redis" else ""
    return Settings(root=root, home=root / "home", online_store=url)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def materialised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeastProject:
    """What Feast wrote; not to be changed."""
    return make_project(settings_of(request.param, tmp_path_factory.mktemp("feast"), request, 0))


def test_every_value_and_time_is_what_feast_finds(materialised: FeastProject) -> None:
    answer = materialised.feasts_answer(UNKNOWN)
    with reading(materialised.url) as read:
        loads, machines = read(Asked("load", "site", UNKNOWN, LOAD), Asked("health", "machine", ["m"], HEALTH))
    found = {**loads, **machines}
    assert answer.pop("site") == UNKNOWN
    features = ["load_pct", "waiting_count", "is_open", "keeper"]
    for position, site in enumerate(UNKNOWN):
        stored = found[site]
        for name in features:
            ours = stored.values[name] if stored else None
            assert exact(ours) == exact(answer[name][position]), (site, name)
            assert (stored.event_time_s if stored else 0) == answer[f"{name}__ts"][position]
    assert found["m"] == Stored({"pulse_hz": 2.0}, NOON.timestamp())
    assert [site for site in UNKNOWN if found[site] is None] == ["old", "nowhere"]


def test_completed_rows_are_what_training_saw(materialised: FeastProject) -> None:
    import pandas as pd

    asked = pd.DataFrame({"id": UNKNOWN, "at": pd.to_datetime([NOON] * len(UNKNOWN)), "site": UNKNOWN, "machine": "m"})
    names = list(materialised.contract.feature_names)
    frame = materialised.store.training_frame(materialised.contract, asked)[names].astype(object)
    store = open_store(materialised.url)
    rows = [{"site": site, "machine": "m", "at": NOON.isoformat()} for site in UNKNOWN]
    contract = materialised.contract

    async def complete() -> None:
        await Completion(contract, store, 60, lambda: datetime.now(UTC)).complete(rows)
        store.close()

    asyncio.run(complete())
    usable = [site for site in UNKNOWN if site != "bounds"]  # holds a float that is too large for the model
    for row, trained in zip(rows, frame.to_dict("records"), strict=True):
        if row["site"] in usable:
            assert {name: row[name] for name in names} == {
                name: None if pd.isna(value) else value for name, value in trained.items()
            }


@pytest.mark.parametrize("where", ["sqlite", "redis"])
def test_what_feast_materialises_again_is_seen(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    project = make_project(settings_of(where, tmp_path, request, 1))
    asked = Asked("load", "site", ["whole"], LOAD)
    with reading(project.url) as read:
        assert read(asked)[0]["whole"].values["load_pct"] == 12.5
        changed = tables()["load"]
        changed.loc[changed.site == "whole", "load_pct"] = 77.0
        project.write({"load": changed})
        assert read(asked)[0]["whole"].values["load_pct"] == 77.0


@pytest.mark.parametrize(
    ("url", "path", "project"),
    [
        ("sqlite:///a/online.db?project=p", "/a/online.db", "p"),
        ("sqlite:////a/online.db?project=p", "/a/online.db", "p"),
        ("sqlite:///a%20b%3F/online.db?project=p_1", "/a b?/online.db", "p_1"),
    ],
)
def test_url_names_a_file_and_a_project(url: str, path: str, project: str) -> None:
    opened = open_store(url)
    assert isinstance(opened, feast_sqlite.FeastSqliteStore)
    assert (opened.path, opened.project) == (Path(path), project)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/a/online.db",
        "mysql:///a?project=p",
        "sqlite:///?project=p",
        "sqlite://host/a?project=p",
        "sqlite:///a%00b?project=p",
        "sqlite:///a?project=p#x",
        "sqlite:///a",
        "sqlite:///a?project=",
        "sqlite:///a?project=p&project=q",
        "sqlite:///a?project=p&mode=rw",
    ],
)
def test_url_of_no_store_says_which_form_it_has(url: str) -> None:
    with pytest.raises(UsageError, match=r"sqlite:///path/online\.db\?project=NAME"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://h?project=p", Address("h", 6379, 0, "", "", tls=False), "redis://h:6379/0"),
        ("redis://:s%2Fe@h:1/2?project=p", Address("h", 1, 2, "", "s/e", tls=False), "redis://h:1/2"),
        ("rediss://u:s@h/0?project=p", Address("h", 6379, 0, "u", "s", tls=True), "rediss://h:6379/0"),
    ],
)
def test_url_names_a_redis_and_a_project(url: str, address: Address, shown: str) -> None:
    opened = open_store(url)
    assert isinstance(opened, FeastRedisStore)
    assert (opened.address, opened.project, str(opened.address)) == (address, "p", shown)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379",
        "redis:///0?project=p",
        "redis://u:planted@h/zero?project=p",
        "redis://u:planted@h:port/0?project=p",
        "redis://u:planted:9/x@h/0?project=p",
        "redis://u:planted@h/0?project=p&ssl=true",
        "rediss://u:planted#x@h/0?project=p",
        "radish://u:planted@h/0?project=p",
    ],
)
def test_url_of_no_redis_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError, match=r"redis://:PASSWORD@HOST:6379/0\?project=NAME") as refused:
        open_store(url)
    assert "planted" not in "".join(traceback.format_exception(refused.value))


def test_reading_loads_no_library_of_feasts(materialised: FeastProject) -> None:
    code = (
        "import asyncio, sys, time\n"
        "import serving.completion\n"
        "from serving.online_store import Asked, open_store\n"
        "async def read():\n"
        "    store = open_store(sys.stdin.read())\n"
        f"    asked = Asked('load', 'site', ['whole'], frozenset({sorted(LOAD)}))\n"
        "    (found,) = await store.read([asked], time.monotonic() + 60)\n"
        "    store.close()\n"
        "    assert found['whole'].values['load_pct'] == 12.5\n"
        "asyncio.run(read())\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'feast', 'pandas', 'mlflow', 'google', 'pyarrow'})\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=materialised.url, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "set()\n"
