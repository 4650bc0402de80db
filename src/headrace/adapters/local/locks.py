"""A lock between processes, held by the kernel: it is free again when its holder dies, however that happens."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.errors import Conflict, Unavailable

_POLL_S = 0.02


@contextmanager
def held(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be and never removed.

    Raises:
        Conflict: another process has held it for `timeout_s`.
        Unavailable: the file can't be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as failed:
        raise Unavailable(f"the lock {path} can't be made: {failed.strerror}; is there room, and may you write?") from (
            failed
        )
    with file:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as busy:
                if time.monotonic() >= deadline:
                    raise Conflict(
                        f"another command has held {path} for {timeout_s:g} s; wait for it to end, or end it"
                    ) from busy
            time.sleep(_POLL_S)
        yield
