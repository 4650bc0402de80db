"""What the service asks of an online store, and which store a URL names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from headrace.errors import UsageError

_FORM = "sqlite:///path/online.db?project=NAME"


class Asked(NamedTuple):
    """Keys whose values of a view are wanted, each once."""

    view: str
    entity: str
    keys: Sequence[str]


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
        url: ``sqlite:///absolute/path/online.db?project=headrace``, the path percent-encoded.

    Raises:
        UsageError: the URL names no store that the service can read.
    """
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss"):
        raise UsageError(f"online store {parts.scheme}://: Redis is not read yet; give a file, {_FORM}")
    path, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
    if parts.scheme != "sqlite" or parts.netloc or parts.fragment or not path.strip("/") or "\0" in path:
        raise UsageError(f"online store {url!r} is not of the form {_FORM}")
    (project,) = query.pop("project", [""]) if len(query.get("project", [""])) == 1 else [""]
    if not project or query:
        raise UsageError(f"online store {url!r} has to name Feast's project once and nothing else: {_FORM}")
    # One store's code is not loaded for another's.
    from serving.feast_sqlite import FeastSqliteStore

    # Four slashes are as good as three: SQLAlchemy, and so MLflow, writes absolute paths with four.
    return FeastSqliteStore(Path("/" + path.lstrip("/")), project)
