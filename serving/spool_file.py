"""Files that take whole records until they are taken away: what waits to become segments.

An open file is locked by the process that writes it, so one that nobody holds was left behind by a process that died.
Whatever dies or fills up in the middle of a record, the records before it can be read.
"""

import contextlib
import errno
import fcntl
import os
import uuid
from pathlib import Path

OPEN, CLOSED, UNREADABLE = ".open", ".closed", ".unreadable"
PREDICTIONS, LABELS = "predictions", "labels"


class SpoolFile:
    """One file, to append to.

    Attributes:
        path: where it is; its name begins with its kind, and no other file ever has it.
        bytes: how long it is.
        torn: half a record is at its end and can't be removed: whatever came after could not be read.
    """

    def __init__(self, spool: Path, kind: str, whose: str) -> None:
        """Make the file, empty.

        Raises:
            OSError: it can't be made.
        """
        self.path = spool / f"{kind}-{whose}-{os.getpid()}-{uuid.uuid4().hex}{OPEN}"
        self._fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.bytes = 0
        self.torn = False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.discard()
            raise

    def append(self, record: bytes | memoryview, durable: bool = False) -> None:
        """Add a record, all of it or nothing.

        Args:
            record: what to add.
            durable: return only when no loss of power can take it away any more.

        Raises:
            OSError: there is no room, or the disk fails.
        """
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if durable:
                os.fsync(self._fd)
                if not self.bytes:
                    sync_folder(self.path.parent)
        except OSError:
            self._cut()
            raise
        self.bytes += len(record)

    def finish(self) -> None:
        """Say that nothing comes after, and let go of the file.

        Raises:
            OSError: it keeps the name of an open file, and will be found as one that was left behind.
        """
        try:
            # Before the lock is given back: else it is left behind for a moment, and another may rename it first.
            self.path.rename(self.path.with_suffix(CLOSED))
        finally:
            os.close(self._fd)

    def discard(self) -> None:
        """Let go of the file and remove it, as far as the disk lets us."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self.bytes)
        except OSError:
            self.torn = True


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def waiting(spool: Path, left_over: bool = False) -> list[Path]:
    """Files that wait to become segments; with `left_over` the open ones as well, whoever writes them or did."""
    endings = (CLOSED, OPEN) if left_over else (CLOSED,)
    return [path for kind in (PREDICTIONS, LABELS) for ending in endings for path in spool.glob(f"{kind}-*{ending}")]


def check_room(spool: Path, kind: str, most_bytes: int) -> None:
    """Whether another file of a kind may be made.

    Raises:
        OSError: as many bytes wait already as may.
    """
    found = 0
    for path in spool.glob(f"{kind}-*"):
        # The one that makes segments may have removed it by now.
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size
    if found >= most_bytes:
        raise OSError(errno.ENOSPC, f"{found} bytes of {kind} wait to become segments, which is as much as may")
