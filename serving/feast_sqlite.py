"""Feast's online store in an SQLite file, read as Feast writes it.

One table a view, one row for each key and feature. SQLite sees with every read whether another process has written;
what is kept here from one request to the next is the open file, and no value.
"""

import asyncio
import os
import sqlite3
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from serving.feast_format import decode_rows, key_prefix, key_suffix
from serving.online_store import Asked, Found, Stored
from serving.store_trouble import Trouble

RETRY_S = 0.001
"""How long others have the event loop while a writer holds the file locked."""
SLICE_S = 0.002
"""How long a read holds the event loop at most."""
_STEPS_BETWEEN_CHECKS = 1000
_NOT_FEASTS = (TypeError, ValueError, OverflowError, OSError)

State = Literal["done", "more", "busy", "down"]


class FeastSqliteStore:
    """An OnlineStore that is a file.

    The file need not be there yet, and another may take its place: it is opened when it is read, and again when it is
    not the one that was opened.

    Attributes:
        path: the file.
        project: Feast's name of the project, with which its tables' names begin.
    """

    def __init__(self, path: Path, project: str) -> None:
        self.path = path
        self.project = project
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, ...] = ()
        self._deadline = 0.0
        self._statements: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._trouble = Trouble(str(path))

    async def read(self, asked: Sequence[Asked], deadline: float) -> Sequence[Found]:
        """See `OnlineStore`. It gives way to others only while the file is locked and after each `SLICE_S`."""
        reading = _Reading(asked)
        while (state := self._read_some(reading, deadline)) in ("more", "busy"):
            if time.monotonic() >= deadline:
                self._trouble.say("another process holds it locked" if state == "busy" else "it takes too long")
                return reading.found
            await asyncio.sleep(RETRY_S if state == "busy" else 0)
        if not reading.failed:
            self._trouble.over()
        return reading.found

    def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _read_some(self, reading: "_Reading", deadline: float) -> State:
        try:
            connection = self._opened()
        except (OSError, sqlite3.Error) as refused:
            self._fail(reading, refused)
            return "down"
        self._deadline = deadline
        until = min(deadline, time.monotonic() + SLICE_S)
        # One transaction: SQLite locks the file and looks for changes once, not once a view.
        cursor = connection.execute("BEGIN")
        try:
            while reading.view < len(reading.asked):
                state = self._read_view(cursor, reading, until)
                if state != "done":
                    return state
            return "done"
        finally:
            if self._connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")

    def _read_view(self, cursor: sqlite3.Cursor, reading: "_Reading", until: float) -> State:
        asked, found = reading.asked[reading.view], reading.found[reading.view]
        statement, prefix = self._statement(asked)
        try:
            for key in asked.keys[reading.key :]:
                rows = cursor.execute(statement, (prefix + key_suffix(key),)).fetchall()
                reading.key += 1
                try:
                    found[key] = Stored(*decode_rows(rows)) if rows else None
                except _NOT_FEASTS as strange:
                    # The key stays out of `found`, which is to say that it could not be read.
                    self._fail(reading, strange, asked.view)
                if time.monotonic() >= until and reading.key < len(asked.keys):
                    return "more"
        except sqlite3.Error as refused:
            match getattr(refused, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:
                case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                    return "busy"
                case sqlite3.SQLITE_INTERRUPT:
                    return "more"
                case sqlite3.SQLITE_ERROR:
                    # No such table, as a rule: the file is in order.
                    self._fail(reading, refused, asked.view)
                case _:
                    self._fail(reading, refused, asked.view)
                    reading.next_view()
                    self.close()
                    return "more"
        reading.next_view()
        return "done"

    def _statement(self, asked: Asked) -> tuple[str, bytes]:
        known = self._statements.get((asked.view, asked.entity))
        if known is None:
            table = f"{self.project}_{asked.view}".replace('"', '""')
            select = f'SELECT feature_name, value, event_ts FROM "{table}" WHERE entity_key = ?'  # noqa: S608
            known = self._statements[asked.view, asked.entity] = (select, key_prefix(asked.entity))
        return known

    def _opened(self) -> sqlite3.Connection:
        """The connection to the file that is there now.

        Raises:
            OSError, sqlite3.Error: there is none, or it is no such file.
        """
        try:
            status = os.stat(self.path)  # noqa: PTH116 - a third of Path.stat()'s time
        except OSError:
            self.close()
            raise
        # Size and time as well: a file that was copied over another can have all by which SQLite would see a change.
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._connection is None or identity != self._identity:
            self.close()
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{self.path} is no file")
            self._connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode=ro", uri=True, timeout=0, isolation_level=None, check_same_thread=False
            )
            self._connection.set_progress_handler(self._too_late, _STEPS_BETWEEN_CHECKS)
            self._identity = identity
        return self._connection

    def _too_late(self) -> bool:
        return time.monotonic() >= self._deadline

    def _fail(self, reading: "_Reading", why: Exception, view: str = "") -> None:
        reading.failed = True
        self._trouble.say(f"view {view}: {why}" if view else str(why))


class _Reading:
    """How far one read has come."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked = asked
        self.found: list[dict[str, Stored | None]] = [{} for _ in asked]
        self.view = self.key = 0
        self.failed = False

    def next_view(self) -> None:
        self.view += 1
        self.key = 0
