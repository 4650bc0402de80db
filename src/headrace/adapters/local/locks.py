"""A lock between processes, held by the kernel: it is free again when its holder dies, however that happens."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.errors import Conflict, Unavailable

_POLL_S = 0.02


@contextmanager
def held(path: Path, timeout_s: float, what: str = "another command is at it") -> Iterator[None]:
    """Hold the lock of a file, which is made if need be, never removed, and names its last holder's process.

    Args:
        path: the file.
        timeout_s: how long to wait for another holder.
        what: what the other holder is about, for whoever comes second.

    Raises:
        Conflict: another process has held it for `timeout_s`.
        Unavailable: the file can't be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
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
                    raise Conflict(f"{what} (process {_holder(path)}): wait for it to end, or end it") from busy
            time.sleep(_POLL_S)
        _sign(path)
        yield


def _sign(path: Path) -> None:
    # On a full disk the lock holds all the same; only its holder's name is missing.
    try:
        path.write_text(str(os.getpid()))
    except OSError:
        return


def _holder(path: Path) -> str:
    return path.read_text().strip() or "unknown"
