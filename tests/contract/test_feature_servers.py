"""Feast with Redis and PostgreSQL: many machines use them at once, and neither is always there."""

import subprocess
import sys
import threading
import traceback
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from headrace.adapters import feast_registry
from headrace.adapters.feast_store import FeastStore, online_store_url
from headrace.domain.contract import Contract
from headrace.errors import Conflict, DataError, HeadraceError, Unavailable, UsageError
from headrace.settings import Settings
from tests import databases
from tests.serving.feast_project import NOON, FeastProject, prepare_project, tables

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path, redis: databases.Redis, postgres: str) -> Settings:
    """A project on both, with nothing in them."""
    with redis.client() as client:
        client.flushall()
    return Settings(
        root=tmp_path,
        home=tmp_path / "home",
        online_store=redis.url(),
        feast_registry=databases.emptied(postgres),
    )


@pytest.fixture
def project(settings: Settings) -> FeastProject:
    """Its sources and contract are there, and nothing is applied."""
    return prepare_project(settings)


def sites(project: FeastProject) -> list[float | None]:
    return project.feasts_answer(["whole", "bounds"])["load_pct"]


def test_values_of_the_same_time_that_changed_are_written_again(project: FeastProject) -> None:
    project.store.apply()
    project.write(tables())
    changed = tables()["load"]
    changed.loc[changed.site == "whole", "load_pct"] = 77.0
    project.write({"load": changed})
    assert sites(project)[0] == 77.0


def test_a_key_that_stays_is_never_missing_meanwhile(project: FeastProject, redis: databases.Redis) -> None:
    project.store.apply()
    project.write(tables())
    commands: list[str] = []
    ready = threading.Event()

    def listen() -> None:
        with redis.client() as client, client.monitor() as monitor:
            ready.set()
            for command in monitor.listen():
                commands.append(command["command"])
                if command["command"].endswith("the end"):
                    return

    listener = threading.Thread(target=listen)
    listener.start()
    ready.wait(30)
    # Known later: every site of an earlier time has a value, and none leaves but "old".
    project.store.materialise(project.contract, NOON - timedelta(hours=1))
    with redis.client() as client:
        client.echo("the end")
    listener.join(30)
    removing = [command for command in commands if command.split()[0].upper() in ("DEL", "UNLINK", "HDEL", "EXPIRE")]
    whole = [command for command in commands if "whole" in command and command.upper().startswith("HSET")]
    assert len(whole) == 1
    assert not [command for command in removing if "whole" in command]
    assert removing


def test_what_others_keep_in_the_same_redis_stays(project: FeastProject, redis: databases.Redis) -> None:
    project.store.apply()
    project.write(tables())
    with redis.client() as client:
        (ours,) = client.scan_iter(match="*whole*")
        fields = client.hgetall(ours)
        theirs = {ours.removesuffix(b"headrace") + b"my-headrace": fields, b"site-headrace": {b"_ts:load": b""}}
        for key, values in theirs.items():
            client.hset(key, mapping=values)
        project.store.materialise(project.contract, NOON + timedelta(days=300))
        assert not client.exists(ours)
        assert {key: client.hgetall(key) for key in theirs} == theirs


def test_a_view_that_is_gone_leaves_no_values(project: FeastProject, redis: databases.Redis) -> None:
    project.store.apply()
    project.write(tables())
    (project.root / "models/tiny/contract.yaml").unlink()
    project.store.apply()
    with redis.client() as client:
        assert client.dbsize() == 0


_STEP = """
import sys
from datetime import UTC, datetime
from headrace.adapters.feast_store import FeastStore
from headrace.documents import read_contract
from headrace.settings import read
import feast
settings = read()
print("ready", flush=True)
sys.stdin.readline()
store = FeastStore(settings)
for _ in range(3):
    store.apply()
    store.materialise(read_contract(settings.root / "models/tiny/contract.yaml"), datetime(2020, 1, 1, 12, tzinfo=UTC))
"""


def test_two_machines_apply_and_materialise_at_once(project: FeastProject, settings: Settings, tmp_path: Path) -> None:
    """In an empty database, where both want to make the tables."""
    steps = []
    for place in ("one", "other"):
        environment = {
            "HEADRACE_PROJECT": str(settings.root),
            "HEADRACE_HOME": str(tmp_path / place),
            "HEADRACE_ONLINE_STORE": settings.online_store,
            "HEADRACE_FEAST_REGISTRY": settings.feast_registry,
        }
        steps.append(
            subprocess.Popen(
                [sys.executable, "-c", _STEP],
                env=environment,
                cwd=ROOT,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    for step in steps:
        assert step.stdout is not None
        assert step.stdout.readline() == "ready\n"
    ended = []
    for step in steps:
        assert step.stdin is not None
        step.stdin.write("go\n")
        step.stdin.flush()
    for step in steps:
        _, said = step.communicate(timeout=300)
        ended.append((step.returncode, said))
    assert [code for code, _ in ended] == [0, 0], ended
    assert sites(project) == [12.5, 1.7e308]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feast_registry, "_WHILE_HELD", ("lock_timeout = '50ms'",))


@pytest.mark.usefixtures("impatient")
def test_readers_go_together_and_a_writer_waits_for_them(project: FeastProject, settings: Settings) -> None:
    project.store.apply()
    with project.store._session("reading"):
        assert sites(replace(project, store=FeastStore(settings))) == [None, None]
        with pytest.raises(Conflict, match="another process has used the feature store"):
            FeastStore(settings).apply()
    with project.store._session("writing", writes=True), pytest.raises(Conflict):
        sites(replace(project, store=FeastStore(settings)))
    FeastStore(settings).apply()


@pytest.mark.usefixtures("impatient")
def test_a_holder_that_was_killed_holds_nobody_up(project: FeastProject, settings: Settings) -> None:
    code = (
        "import psycopg, sys, time\n"
        "connection = psycopg.connect(sys.stdin.readline().strip())\n"
        "connection.execute(\"SELECT pg_advisory_xact_lock(hashtext('headrace feast'))\")\n"
        "print('held', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(settings.feast_registry + "\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Conflict):
            project.store.apply()
        holder.kill()
        holder.wait(30)
    with psycopg.connect(settings.feast_registry) as connection:
        # The server has noticed when it grants the lock to somebody who waits as long as it takes.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('headrace feast'))")
    project.store.apply()


def test_reading_before_anything_was_applied_says_what_to_do(project: FeastProject) -> None:
    with pytest.raises(DataError, match="the registry has no definitions yet: apply them first"):
        sites(project)


def refusal(settings: Settings, contract: Contract, as_of: datetime = NOON) -> tuple[HeadraceError, str]:
    """What a step says that can't materialise, and everything that a traceback of it shows."""
    with pytest.raises(HeadraceError) as refused:
        FeastStore(settings).materialise(contract, as_of)
    return refused.value, "".join(traceback.format_exception(refused.value))


def test_server_that_does_not_let_us_in_is_said_without_the_password(project: FeastProject, settings: Settings) -> None:
    project.store.apply()
    for field in ("online_store", "feast_registry"):
        right = getattr(settings, field)
        user, _, place = right.rpartition("@")
        wrong = replace(settings, **{field: f"{user.rpartition(':')[0]}:planted-secret@{place}"})
        error, shown = refusal(wrong, project.contract)
        assert isinstance(error, Unavailable)
        assert "password" in str(error)
        assert "planted-secret" not in shown


def test_server_that_is_not_there_is_said_with_its_place(project: FeastProject, settings: Settings) -> None:
    project.store.apply()
    for field, scheme in (("online_store", "redis"), ("feast_registry", "postgresql")):
        gone = replace(settings, **{field: f"{scheme}://u:planted-secret@127.0.0.1:1/0"})
        error, shown = refusal(gone, project.contract)
        assert isinstance(error, Unavailable)
        assert "127.0.0.1" in str(error)
        assert "planted-secret" not in shown


@pytest.mark.parametrize(
    ("field", "url"),
    [
        ("online_store", "redis://"),
        ("online_store", "redis://u:planted-secret@h/zero"),
        ("online_store", "redis://u:planted-secret@h:port/0"),
        ("online_store", "redis://u:planted/secret@h/0"),
        ("online_store", "redis://u:planted-secret@h/0?project=p&project=q"),
        ("online_store", "redis://u:planted-secret@h/0?ssl=true"),
        ("online_store", "redis://u:planted-secret@[::1]:6379/0"),
        ("online_store", "http://u:planted-secret@h/0"),
        ("feast_registry", "mysql://u:planted-secret@h/feast"),
        ("feast_registry", "postgresql+psycopg2://u:planted-secret@h/feast"),
        ("feast_registry", "/planted-secret"),
    ],
)
def test_url_of_another_form_says_which_variable_and_form(field: str, url: str) -> None:
    settings = replace(Settings(root=ROOT, home=ROOT / "home"), **{field: url})
    with pytest.raises(
        UsageError, match=f"HEADRACE_{field.upper()} is not of the form (redis|postgresql)://"
    ) as refused:
        FeastStore(settings)
    assert "planted" not in "".join(traceback.format_exception(refused.value))


def test_service_is_given_the_same_redis_and_the_project(project: FeastProject, settings: Settings) -> None:
    assert online_store_url(settings) == f"{settings.online_store}?project=headrace"


def test_one_url_does_for_steps_and_services(project: FeastProject, settings: Settings) -> None:
    whole = replace(settings, online_store=f"{settings.online_store}?project=headrace")
    store = FeastStore(whole)
    store.apply()
    assert store.materialise(project.contract, NOON) == {"load": 6, "health": 1}
    assert online_store_url(whole) == whole.online_store


def test_url_of_another_project_is_refused(project: FeastProject, settings: Settings) -> None:
    other = replace(settings, online_store=f"{settings.online_store}?project=other")
    with pytest.raises(UsageError, match=r"names the project 'other', and .* 'headrace'"):
        FeastStore(other).apply()
    with pytest.raises(UsageError, match="names the project 'other'"):
        online_store_url(other)
