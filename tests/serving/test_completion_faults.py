"""An online store that fails is answered by the contract's policy, within the deadline, and heals."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.completion import Completed, Completion
from serving.online_store import open_store
from tests.serving.completing import (
    JFK,
    N1,
    NO_DEPARTURES,
    NO_PLANE,
    NOON,
    Complete,
    completing,
    contract,
    make_online,
)
from tests.serving.online_file import OnlineFile


@pytest.fixture
def online(tmp_path: Path) -> OnlineFile:
    """A store of the test's own."""
    return make_online(tmp_path)


@pytest.fixture
def complete(online: OnlineFile) -> Iterator[Complete]:
    """Completes rows from it."""
    with completing(online) as run:
        yield run


@contextlib.contextmanager
def removed(online: OnlineFile) -> Iterator[None]:
    aside = online.path.rename(online.path.with_name("aside"))
    yield
    aside.rename(online.path)


@contextlib.contextmanager
def a_directory(online: OnlineFile) -> Iterator[None]:
    with removed(online):
        online.path.mkdir()
        yield
        online.path.rmdir()


@contextlib.contextmanager
def locked(online: OnlineFile) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(online.path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        yield
        writer.execute("ROLLBACK")


@contextlib.contextmanager
def garbled(online: OnlineFile) -> Iterator[None]:
    whole = online.path.read_bytes()
    online.path.write_bytes(b"no database " * (len(whole) // 12))
    yield
    online.path.write_bytes(whole)


_ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i AS entity_key, 'x' AS feature_name, x'' AS value, 0 AS event_ts FROM n"
)


@contextlib.contextmanager
def endless(online: OnlineFile) -> Iterator[None]:
    """A table of that name that never comes to its end: as slow as can be."""
    with online.writing() as writer:
        for view in ("departures", "planes"):
            writer.execute(f"ALTER TABLE tests_{view} RENAME TO kept_{view}")
            writer.execute(f"CREATE VIEW tests_{view} AS {_ENDLESS}")
    yield
    with online.writing() as writer:
        for view in ("departures", "planes"):
            writer.execute(f"DROP VIEW tests_{view}")
            writer.execute(f"ALTER TABLE kept_{view} RENAME TO tests_{view}")


@pytest.mark.parametrize("fault", [removed, a_directory, locked, garbled, endless], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("already_open", [False, True])
def test_store_that_fails_is_answered_by_policy_within_the_deadline_and_heals(
    complete: Complete, online: OnlineFile, fault: Any, already_open: bool
) -> None:
    if already_open:
        complete({"tail": "N1"})
    rows = [{"origin": "JFK", "tail": "N1"}, {"tail": "N1"}]
    with fault(online):
        # Without a deadline that is kept this would never end.
        completed = complete(*rows, deadline_s=0.05)
        refused = complete({"tail": "N1"}, deadline_s=0.05, fallback="refuse")
    assert completed.fallbacks == {("departures", "unreadable"): 1, ("planes", "unreadable"): 2}
    assert completed.refused == ()
    assert rows == [{"origin": "JFK", "tail": "N1", **NO_DEPARTURES, **NO_PLANE}, {"tail": "N1", **NO_PLANE}]
    assert refused.refused == ["rows[0]: view 'planes' could not be read"]
    assert refused.fallbacks == {("planes", "unreadable"): 1}
    row = {"origin": "JFK", "tail": "N1"}
    assert complete(row).fallbacks == {}
    assert row == {"origin": "JFK", "tail": "N1", **JFK, **N1}


def test_lock_that_is_released_in_time_costs_nothing_but_time_and_others_work_meanwhile(online: OnlineFile) -> None:
    async def run() -> Completed:
        store = open_store(online.url)
        completion = Completion(contract(), store, 600, lambda: NOON)
        with locked(online):
            waiting = asyncio.create_task(completion.complete([row]))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
        completed = await waiting
        store.close()
        return completed

    row = {"origin": "JFK", "tail": "N1"}
    assert asyncio.run(run()).fallbacks == {}
    assert row == {"origin": "JFK", "tail": "N1", **JFK, **N1}
