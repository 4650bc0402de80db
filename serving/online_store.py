"""What the service asks of an online store, and which store a URL names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from headrace.errors import UsageError

_FILE = "sqlite:///path/online.db?project=NAME"
_REDIS = "redis://:PASSWORD@HOST:6379/0?project=NAME"
_FORM = f"{_FILE} or {_REDIS}, with rediss:// for TLS"


class Asked(NamedTuple):
    """Keys whose values of a view are wanted, each once.

    Attributes:
        features: those that are wanted; a store may give others too.
    """

    view: str
    entity: str
    keys: Sequence[str]
    features: frozenset[str]


class Stored(NamedTuple):
    """What a view holds for a key.

    Attributes:
        values: feature to float, int, bool, str, None (a null that is stored) or `feast_format.UNREADABLE`.
        event_time_s: the moment from which they are known, seconds since 1970 UTC.
    """

    values: Mapping[str, Any]
    event_time_s: float


# A key that is there with None was looked up and has nothing; a key that is not there could not be read.
Found = Mapping[str, Stored | None]


class OnlineStore(Protocol):
    """Where the latest values of the views are; what does not answer is part of the answer, never an exception."""

    async def read(self, asked: Sequence[Asked], deadline: float) -> Sequence[Found]:
        """Look keys up, without holding the event loop up.

        Args:
            asked: views and keys.
            deadline: moment on `time.monotonic()` at which it returns with what it has.

        Returns:
            What was found, one mapping for each of `asked`.
        """

    def close(self) -> None:
        """Let go of the connection; the next read opens another."""


def open_store(url: str) -> OnlineStore:
    """The store that a URL names. Nothing is opened yet, and it need not be there yet.

    Args:
        url: ``sqlite:///absolute/path/online.db?project=headrace``, or ``redis://`` or ``rediss://`` with host, port,
            number of the database and, if need be, user and password, and the project. All are percent-encoded.

    Raises:
        UsageError: the URL names no store that the service can read. A password in it is not repeated.
    """
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True)
        (project,) = query.pop("project", [""])
        store = None if query or parts.fragment or not project else _store(parts, project)
    except ValueError:
        # What it says may repeat a part of a password.
        store = None
    if store is None:
        scheme = url.partition("://")[0]
        shown = f"{scheme}://…" if scheme in ("redis", "rediss") or "@" in url else repr(url)
        raise UsageError(
            f"online store {shown} is not of the form {_FORM}: one project, nothing else, "
            "and other characters than letters and digits in it percent-encoded"
        )
    return store


def _store(parts: SplitResult, project: str) -> OnlineStore | None:
    """None if it is not of the form; ValueError for a port that is none."""
    # One store's code is not loaded for another's.
    if parts.scheme == "sqlite":
        from serving.feast_sqlite import FeastSqliteStore

        path = unquote(parts.path)
        if parts.netloc or not path.strip("/") or "\0" in path:
            return None
        # Four slashes are as good as three: SQLAlchemy, and so MLflow, writes absolute paths with four.
        return FeastSqliteStore(Path("/" + path.lstrip("/")), project)
    if parts.scheme in ("redis", "rediss"):
        try:
            from serving.feast_redis import Address, FeastRedisStore
        except ImportError as missing:
            raise UsageError(f"online store: {missing}: install headrace with its extra `redis`") from missing

        database = parts.path.removeprefix("/") or "0"
        if not parts.hostname or not database.isdecimal():
            return None
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        tls = parts.scheme == "rediss"
        return FeastRedisStore(Address(parts.hostname, parts.port or 6379, int(database), user, password, tls), project)
    return None
