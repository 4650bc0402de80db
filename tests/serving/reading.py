"""Reads of an online store as the service makes them: on one event loop."""

import asyncio
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from serving.online_store import Asked, Found, open_store

Read = Callable[..., Sequence[Found]]


@contextmanager
def reading(url: str) -> Iterator[Read]:
    """Reads what it is asked, within a deadline in seconds."""
    store = open_store(url)
    with asyncio.Runner() as runner:

        def read(*asked: Asked, deadline_s: float = 60) -> Sequence[Found]:
            return runner.run(store.read(asked, time.monotonic() + deadline_s))

        async def close() -> None:
            store.close()

        yield read
        runner.run(close())


def exact(value: object) -> object:
    """A value to be compared by type and by bits."""
    return (type(value), struct.pack("<d", value) if isinstance(value, float) else value)
