"""One writer at a time on this machine, by flock: it goes with the process that held it, however that ended."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.errors import Conflict


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock while the body runs.

    Args:
        path: the lock file; its content is the holder's process id.
        what: what is going on under this lock, for the message of whoever comes second.

    Raises:
        Conflict: somebody holds it; the message says who.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Conflict(f"{what} (process {holder}); wait for it, or end it with Ctrl-C where it runs") from taken
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
