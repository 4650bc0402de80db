"""Feast's online store: an SQLite file, or Redis; what Feast is told of it, and what Feast leaves to do."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

from headrace.errors import UsageError
from headrace.settings import Settings, variable

_ANSWER_S = 30
"""How long one answer of Redis may take; a frozen one ends the step and does not hold it up."""
_AT_ONCE = 1000


class Online(Protocol):
    """An online store of Feast's."""

    def config(self, project: str) -> Mapping[str, Any]:
        """The section ``online_store`` of feature_store.yaml.

        Raises:
            UsageError: it is another project's.
        """
        ...

    def url(self, project: str) -> str:
        """For the service's flag ``--online-store``.

        Raises:
            UsageError: it is another project's.
        """
        ...

    def keep_only(self, store: Any, view: str, oldest: datetime, newest: datetime) -> int:
        """Remove values of a view from outside the span, which materialisation leaves; the number of keys that stay."""
        ...


def online_of(settings: Settings) -> Online:
    """The one that the settings name.

    Raises:
        UsageError: they name none that Feast can write.
    """
    return RedisOnline(settings.online_store) if settings.online_store else FileOnline(settings.home)


class FileOnline:
    """An SQLite file below the home folder."""

    def __init__(self, home: Path) -> None:
        self._path = home / "feast" / "online.db"

    def config(self, project: str) -> Mapping[str, Any]:
        """See `Online`."""
        return {"type": "sqlite", "path": str(self._path)}

    def url(self, project: str) -> str:
        """See `Online`."""
        return f"sqlite://{quote(str(self._path))}?project={quote(project)}"

    def keep_only(self, store: Any, view: str, oldest: datetime, newest: datetime) -> int:
        """See `Online`."""
        from feast.infra.online_stores.helpers import compute_table_id

        table = compute_table_id(store.project, store.get_feature_view(view))
        # Feast stores times as the machine's clock would read their UTC digits, in whole seconds since 1970.
        span = [int(moment.astimezone(UTC).replace(tzinfo=None).timestamp()) for moment in (oldest, newest)]
        with contextlib.closing(sqlite3.connect(self._path, timeout=30)) as online, online:
            online.execute(f'DELETE FROM "{table}" WHERE event_ts < ? OR event_ts > ?', span)  # noqa: S608
            (count,) = online.execute(f'SELECT count(DISTINCT entity_key) FROM "{table}"').fetchone()  # noqa: S608
        return int(count)


class RedisOnline:
    """A Redis: ``redis://[user:password@]host[:port][/database][?project=NAME]``, or ``rediss://`` for TLS.

    The project may be left out; one Secret does for steps and services when it is there.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            query = parse_qs(parts.query, keep_blank_values=True)
            (self._project,) = query.pop("project", [""])
            self._place = f"{parts.hostname}:{parts.port or 6379}"
            # Feast takes the host apart at its colons.
            right = parts.scheme in ("redis", "rediss") and ":" not in (parts.hostname or ":")
            right = right and not query and not parts.fragment and bool(re.fullmatch(r"/?\d*", parts.path))
        except ValueError:
            # What it says may repeat a part of a password.
            right = False
        if not right:
            raise UsageError(
                f"{variable('online_store')} is not of the form redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS, "
                "other characters than letters and digits in the password percent-encoded"
            )
        self._parts = parts
        self._url = url.partition("?")[0]

    def config(self, project: str) -> Mapping[str, Any]:
        """See `Online`. Newer values are overwritten too: a replay of an earlier time must not find the future."""
        self._refuse_other(project)
        parameters = {
            "db": int(self._parts.path.strip("/") or 0),
            "socket_timeout": _ANSWER_S,
            "socket_connect_timeout": _ANSWER_S,
            **({"ssl": True, "ssl_check_hostname": True} if self._parts.scheme == "rediss" else {}),
            **{
                name: unquote(value)
                for name, value in (("username", self._parts.username), ("password", self._parts.password))
                if value
            },
        }
        # Feast splits it at commas, and reads each value as JSON.
        said = [f"{name}={json.dumps(value)}".replace(",", "\\u002c") for name, value in parameters.items()]
        return {
            "type": "redis",
            "connection_string": ",".join([self._place, *said]),
            "skip_dedup": True,
        }

    def url(self, project: str) -> str:
        """See `Online`."""
        self._refuse_other(project)
        return f"{self._url}?project={quote(project)}"

    def _refuse_other(self, project: str) -> None:
        if self._project not in ("", project):
            raise UsageError(
                f"{variable('online_store')} names the project {self._project!r}, and feature_repo/feature_store.yaml "
                f"{project!r}: services would read what no step writes; give both one name"
            )

    def keep_only(self, store: Any, view: str, oldest: datetime, newest: datetime) -> int:
        """See `Online`."""
        import redis
        from feast.infra.key_encoding_utils import serialize_entity_key_prefix
        from feast.infra.online_stores.helpers import _mmh3

        definition = store.get_feature_view(view)
        time_field = f"_ts:{view}"
        fields = [time_field, *(_mmh3(f"{view}:{feature.name}") for feature in definition.features)]
        prefix = serialize_entity_key_prefix(definition.join_keys, entity_key_serialization_version=3)
        staying: set[bytes] = set()
        client = redis.Redis.from_url(self._url, socket_timeout=_ANSWER_S, socket_connect_timeout=_ANSWER_S)
        with contextlib.closing(client):
            keys = _keys(client, prefix, store.project.encode())
            while some := [*islice(keys, _AT_ONCE)]:
                with client.pipeline(transaction=False) as commands:
                    for key in some:
                        commands.hget(key, time_field)
                    for key, stored in zip(some, commands.execute(), strict=True):
                        if stored is None:
                            continue
                        if oldest <= _moment(stored) <= newest:
                            staying.add(key)
                        else:
                            commands.hdel(key, *fields)
                    commands.execute()
        return len(staying)


def _keys(client: Any, prefix: bytes, project: bytes) -> Iterator[bytes]:
    """The keys of a project and an entity, some more than once."""
    pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", prefix) + b"*" + project
    found: Iterable[bytes] = client.scan_iter(match=pattern, count=_AT_ONCE)
    start = len(prefix) + 8
    for key in found:
        # After the prefix come a type and a length, four bytes each, the value, and the project: which may end as
        # another project's name does.
        end = start + int.from_bytes(key[start - 4 : start], "little")
        if key[end:] == project:
            yield key


def _moment(stored: bytes) -> datetime:
    from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

    return Timestamp.FromString(stored).ToDatetime(tzinfo=UTC)
