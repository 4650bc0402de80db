"""One at a time, across processes."""

import contextlib
import fcntl
from collections.abc import Iterator

from tests.cluster.node.place import CACHE


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold a lock on this machine; wait for it if somebody else does. The kernel frees it with its holder."""
    folder = CACHE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
