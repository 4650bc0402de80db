"""What the service asks of an online store, and which store a URL names."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Asked(NamedTuple):
    """Keys whose values of a view are wanted, each once."""

    view: str
    entity: str
    keys: Sequence[str]


class Stored(NamedTuple):
    """What a view holds for a key.

    Attributes:
        values: feature to float, int, bool, str, None (a null that is stored) or `UNREADABLE`.
        event_time_s: the moment from which they are known, seconds since 1970 UTC.
    """

    values: Mapping[str, Any]
    event_time_s: float


UNREADABLE = object()
"""A value that is there and can't be read."""

# A key that is there with None was looked up and has nothing; a key that is not there was not read.
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
    """The store that a URL names; it need not be there yet.

    Args:
        url: ``sqlite:///absolute/path/online.db?project=headrace``.

    Raises:
        UsageError: the URL is of no store that there is.
    """
    raise NotImplementedError(url)
