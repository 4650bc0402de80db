"""The file of the online store, whatever becomes of it while it is read."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving import feast_sqlite
from serving.feast_format import UNREADABLE, key_prefix, key_suffix
from serving.online_store import Asked, Found, OnlineStore, Stored, open_store
from tests.serving.online_file import OnlineFile

NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)
SITES = ["whole", "nulls", "third", "nowhere"]


@pytest.fixture
def own(tmp_path: Path) -> OnlineFile:
    """A store with two views."""
    (tmp_path / "store").mkdir()
    file = OnlineFile(tmp_path / "store/online.db")
    for site, value in zip(SITES, (12.5, None, 3.0), strict=False):
        file.put("load", "site", site, NOON, load_pct=value, waiting_count=3)
    file.put("health", "machine", "m", NOON, pulse_hz=2.0)
    return file


@pytest.fixture
def store(own: OnlineFile) -> Iterator[OnlineStore]:
    """A reader of it."""
    opened = open_store(own.url)
    yield opened
    opened.close()


def read(store: OnlineStore, view: str, entity: str, keys: Sequence[str], deadline_s: float = 60) -> Found:
    (found,) = asyncio.run(store.read([Asked(view, entity, keys, frozenset())], time.monotonic() + deadline_s))
    return found


def load(store: OnlineStore, site: str = "whole") -> float | None:
    """The float that is stored for a site; KeyError if it could not be read."""
    found = read(store, "load", "site", [site])[site]
    return found and found.values["load_pct"]


def test_what_another_process_writes_is_seen_with_the_next_read(own: OnlineFile, store: OnlineStore) -> None:
    assert load(store) == 12.5
    for value in (1.0, 2.0, None):
        own.put("load", "site", "whole", NOON, load_pct=value)
        assert load(store) == value
    with own.writing() as writer:
        writer.execute("DELETE FROM tests_load")
    assert load(store) is None


def test_journal_that_a_killed_writer_left_is_not_read_over(
    own: OnlineFile, store: OnlineStore, tmp_path: Path
) -> None:
    """Half of a transaction is in the file; only a writer can take it back."""
    with contextlib.closing(sqlite3.connect(own.path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE tests_load SET value = x'290000000000000840' WHERE feature_name = 'load_pct'")
        writer.executemany("INSERT INTO tests_load(entity_key) VALUES (?)", [(i,) for i in range(5000)])
        killed = tmp_path / "killed"
        shutil.copytree(own.path.parent, killed)
        writer.execute("ROLLBACK")
    assert (killed / "online.db-journal").stat().st_size > 0
    left = OnlineFile(killed / "online.db")
    reader = open_store(left.url)
    with pytest.raises(KeyError):
        load(reader)
    with left.writing() as healing:
        healing.execute("SELECT count(*) FROM tests_load")
    assert load(reader) == 12.5
    reader.close()


def test_write_ahead_log_is_read_too(own: OnlineFile, store: OnlineStore) -> None:
    with contextlib.closing(sqlite3.connect(own.path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        own.put("load", "site", "whole", NOON, load_pct=3.0)
        assert load(store) == 3.0
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM tests_load")
        assert load(store) == 3.0
        writer.execute("COMMIT")
        assert load(store) is None


def test_file_that_is_not_there_yet_is_read_when_it_comes(own: OnlineFile, store: OnlineStore) -> None:
    aside = own.path.rename(own.path.with_name("aside"))
    assert read(store, "load", "site", ["whole"]) == {}
    aside.rename(own.path)
    assert load(store) == 12.5
    own.path.unlink()
    assert read(store, "load", "site", ["whole"]) == {}
    assert open_files(own.path) == 0


def open_files(path: Path) -> int:
    """How often this process has the file open."""
    opened = Path("/proc/self/fd").iterdir()
    return sum(str(link.readlink()).startswith(str(path)) for link in opened if link.is_symlink())


@pytest.mark.parametrize("way", ["renamed over it", "copied over it"])
def test_file_that_takes_its_place_is_read(own: OnlineFile, store: OnlineStore, tmp_path: Path, way: str) -> None:
    """A copy can have everything by which SQLite would see a change: both files are one transaction from the same."""
    other = OnlineFile(Path(shutil.copy(own.path, tmp_path / "other.db")))
    own.put("load", "site", "whole", NOON, load_pct=1.0)
    other.put("load", "site", "whole", NOON, load_pct=2.0)
    assert load(store) == 1.0
    if way == "renamed over it":
        other.path.rename(own.path)
    else:
        shutil.copyfile(other.path, own.path)
        os.utime(own.path, ns=(0, own.path.stat().st_mtime_ns + 1))
    assert load(store) == 2.0
    assert open_files(own.path) == 1


@pytest.mark.parametrize("content", [b"", b"no database " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_file_that_is_no_store_has_nothing_readable_and_heals(
    own: OnlineFile, store: OnlineStore, content: bytes
) -> None:
    whole = own.path.read_bytes()
    own.path.write_bytes(content)
    assert read(store, "load", "site", ["whole"]) == {}
    own.path.write_bytes(whole)
    assert load(store) == 12.5


def test_damage_in_one_view_leaves_the_others_readable(own: OnlineFile, store: OnlineStore) -> None:
    with own.writing() as writer:
        roots = writer.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'tests_load'").fetchall()
        (size,) = writer.execute("PRAGMA page_size").fetchone()
    data = bytearray(own.path.read_bytes())
    for (root,) in roots:
        data[(root - 1) * size : root * size] = b"\xff" * size
    own.path.write_bytes(data)
    asked = [Asked("load", "site", ["whole"], frozenset()), Asked("health", "machine", ["m"], frozenset())]
    damaged, sound = asyncio.run(store.read(asked, time.monotonic() + 60))
    assert damaged == {}
    assert sound["m"] == Stored({"pulse_hz": 2.0}, NOON.timestamp())


def test_view_that_was_never_applied_leaves_the_others_readable(store: OnlineStore) -> None:
    asked = [Asked("nothing", "site", ["whole"], frozenset()), Asked("health", "machine", ["m"], frozenset())]
    missing, sound = asyncio.run(store.read(asked, time.monotonic() + 60))
    assert missing == {}
    assert sound["m"] is not None


@pytest.mark.parametrize("column", ["value", "event_ts"])
@pytest.mark.parametrize("content", ["NULL", "'text'", "1e300", "9223372036854775807"])
def test_row_that_feast_did_not_write_is_not_read_and_the_others_are(
    own: OnlineFile, store: OnlineStore, column: str, content: str
) -> None:
    with own.writing() as writer:
        change = f"UPDATE tests_load SET {column} = {content} WHERE entity_key = ? AND feature_name = 'load_pct'"  # noqa: S608
        writer.execute(change, (key_prefix("site") + key_suffix("whole"),))
    found = read(store, "load", "site", ["whole", "nulls"])
    assert found["nulls"] is not None
    assert "whole" not in found or found["whole"].values["load_pct"] is UNREADABLE


def test_named_pipe_in_its_place_holds_nobody_up(own: OnlineFile, store: OnlineStore) -> None:
    own.path.unlink()
    os.mkfifo(own.path)
    assert read(store, "load", "site", ["whole"]) == {}


def test_many_keys_give_others_a_turn(own: OnlineFile, store: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feast_sqlite, "SLICE_S", 0.0)
    turns = 0

    async def run() -> Sequence[Found]:
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        background = asyncio.create_task(others())
        found = await store.read([Asked("load", "site", SITES, frozenset())], time.monotonic() + 60)
        background.cancel()
        return found

    assert list(asyncio.run(run())[0]) == SITES
    assert turns >= len(SITES) - 1


def test_sqlite_itself_never_waits_for_a_lock(store: OnlineStore) -> None:
    """It would hold the event loop up; only its setting shows that without a clock."""
    assert load(store) == 12.5
    assert isinstance(store, feast_sqlite.FeastSqliteStore)
    assert store._connection is not None
    assert store._connection.execute("PRAGMA busy_timeout").fetchone() == (0,)


def test_readers_of_one_store_take_turns_without_mixing_up(own: OnlineFile, store: OnlineStore) -> None:
    async def run() -> list[Sequence[Found]]:
        asked = [Asked("load", "site", SITES, frozenset()), Asked("health", "machine", ["m"], frozenset())]
        with contextlib.closing(sqlite3.connect(own.path, isolation_level=None)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            readers = [asyncio.create_task(store.read(asked, time.monotonic() + 60)) for _ in range(8)]
            await asyncio.sleep(0)
            writer.execute("ROLLBACK")
            return await asyncio.gather(*readers)

    first, *others = asyncio.run(run())
    assert list(first[0]) == SITES
    assert others == [first] * 7


def test_trouble_is_logged_once_with_its_reason_and_without_a_key(
    own: OnlineFile, store: OnlineStore, caplog: pytest.LogCaptureFixture
) -> None:
    own.path.unlink()
    for _ in range(100):
        read(store, "load", "site", ["whole"])
    (record,) = caplog.records
    assert record.getMessage() == "online store not read"
    assert record.fields == {"store": str(own.path), "why": f"[Errno 2] No such file or directory: '{own.path}'"}
