"""An online store as Feast lays it out in an SQLite file, without Feast; test_online_store.py reads Feast's own."""

import contextlib
import sqlite3
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from serving.feast_format import key_prefix, key_suffix

Value = float | int | bool | str | bytes | None


class OnlineFile:
    """The file, for a writer."""

    def __init__(self, path: Path, project: str = "tests") -> None:
        self.path = path
        self.url = f"sqlite://{path}?project={project}"
        self._project = project

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that commits at the end and is closed."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection

    def put(self, view: str, entity: str, key: str, at: datetime, **values: Value) -> None:
        """Store values of a key; bytes are stored as they are."""
        seconds = int(at.astimezone(UTC).replace(tzinfo=None).timestamp())
        with self.writing() as connection:
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS "{self._project}_{view}" (entity_key BLOB, feature_name TEXT, value BLOB, '
                "event_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
            )
            connection.executemany(
                f'INSERT OR REPLACE INTO "{self._project}_{view}"(entity_key, feature_name, value, event_ts) '  # noqa: S608
                "VALUES (?, ?, ?, ?)",
                [
                    (key_prefix(entity) + key_suffix(key), name, encoded(value), seconds)
                    for name, value in values.items()
                ],
            )


def encoded(value: Value) -> bytes:
    """A value as Feast's `ValueProto` has it."""
    match value:
        case None:
            return b""
        case bytes():
            return value
        case bool():
            return bytes([0x38, value])
        case int():
            return b"\x20" + varint(value % (1 << 64))
        case float():
            return struct.pack("<Bd", 0x29, value)
        case str():
            text = value.encode()
            return b"\x12" + varint(len(text)) + text


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    more, last = divmod(number, 128)
    return bytes([last | 128]) + varint(more) if more else bytes([last])
