"""Outcomes that clients send: kept before they are answered for, because nobody sends them twice.

One JSON object a line, in a spool file that `serving.segments` makes Parquet of. Sending a label again changes nothing:
of all labels for one prediction, or for one key and decision time, the one received last counts.
"""

import fcntl
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.spool import CLOSED, OPEN

_log = logging.getLogger("headrace.serving")

LABELS = "labels"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Label:
    """One outcome: of the prediction with this id, or of the row with this key and decision time.

    Attributes:
        label: 0 or 1, the position of a class, or a number, as the contract's task has it.
        label_time_us: when it became known, microseconds since 1970 UTC; None when the client does not say.
    """

    label: float
    prediction_id: str | None = None
    key: str | None = None
    decision_time_us: int | None = None
    label_time_us: int | None = None


class LabelLog:
    """Appends labels, and returns once they are on the disk.

    Args:
        spool: folder of the spool files.
        model: whose labels.
        rotate_s: a segment has the labels of at most so long.
    """

    def __init__(self, spool: Path, model: str, rotate_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._spool = spool
        self._model = model
        self._rotate_s = rotate_s
        self._now = now
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._path = spool
        self._since = 0.0

    def append(self, labels: Sequence[Label]) -> None:
        """Keep labels, all or none. For a thread: it waits for the disk.

        Raises:
            OSError: there is no room, or the disk fails; nothing is kept.
        """
        received = {"schema_version": SCHEMA_VERSION, "model": self._model, "time_us": time.time_ns() // 1000}
        data = "".join(json.dumps({**received, **asdict(label)}) + "\n" for label in labels).encode()
        with self._lock:
            fd = self._open()
            size = os.fstat(fd).st_size
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise

    def rotate(self, everything: bool = False) -> None:
        """Close a file that is old enough, so that it becomes a segment."""
        with self._lock:
            if self._fd is None or not (everything or self._now() - self._since >= self._rotate_s):
                return
            os.close(self._fd)
            self._fd = None
            try:
                self._path.rename(self._path.with_suffix(CLOSED))
            except OSError as failed:
                # It stays open by name, and is found as left behind.
                _log.warning("a file of labels stays open", extra={"fields": {"reason": failed.strerror}})

    def _open(self) -> int:
        if self._fd is None:
            self._path = self._spool / f"{LABELS}-{self._model}-{os.getpid()}-{uuid.uuid4().hex}{OPEN}"
            self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._since = self._now()
        return self._fd


def read_labels(path: Path) -> Iterator[dict[str, Any]]:
    """The labels in a file, oldest first, as far as its lines are whole.

    Raises:
        ValueError: a line is of a form that is not known here.
    """
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        label = json.loads(line)
        if label.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"labels of form {label.get('schema_version')}, known is {SCHEMA_VERSION}")
        yield label
