"""Outcomes that clients send: kept before they are answered for, because nobody sends them twice.

One JSON object a line, in a spool file that `serving.segments` makes Parquet of. Sending a label again changes nothing:
of all labels for one prediction, or for one key and decision time, the one received last counts.
"""

import errno
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.spool_file import LABELS, SpoolFile, check_room

_log = logging.getLogger("headrace.serving")

SCHEMA_VERSION = 1
# More requests than this don't wait for the disk: one that hangs must leave places for predictions.
_AT_ONCE = 16
_CLOSE_S = 5.0


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
        rotate_bytes: and its spool file is of about this size.
        spool_bytes: so much may wait to become segments; no more labels are taken then.
        now: seconds, for `rotate_s`.
        clock_ns: nanoseconds since 1970 UTC.
    """

    def __init__(
        self,
        spool: Path,
        model: str,
        rotate_s: float,
        rotate_bytes: int = 16 * 1024 * 1024,
        spool_bytes: int = 1024 * 1024 * 1024,
        now: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._spool = spool
        self._model = model
        self._rotate_s = rotate_s
        self._rotate_bytes = rotate_bytes
        self._spool_bytes = spool_bytes
        self._now = now
        self._clock_ns = clock_ns
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._file: SpoolFile | None = None
        self._since = 0.0
        self._last_us = 0

    def append(self, labels: Sequence[Label]) -> None:
        """Keep labels, all or none. For a thread: it waits for the disk.

        Raises:
            BlockingIOError: too many wait for the disk already; nothing is kept.
            OSError: there is no room, or the disk fails; nothing is kept.
        """
        if not self._places.acquire(blocking=False):
            raise BlockingIOError(errno.EAGAIN, f"{_AT_ONCE} requests with labels wait for the disk")
        try:
            with self._lock:
                self._append(labels)
        finally:
            self._places.release()

    def rotate(self, everything: bool = False) -> None:
        """Close a file that is old or long enough, so that it becomes a segment. For a thread, or the end."""
        # A file that is being written to is looked at another time; at the end there is none.
        if not self._lock.acquire(timeout=_CLOSE_S if everything else 0.0):
            return
        try:
            file = self._file
            if file is not None and (everything or self._is_full(file)):
                self._release(file)
        finally:
            self._lock.release()

    def _append(self, labels: Sequence[Label]) -> None:
        if self._file is not None and self._is_full(self._file):
            self._release(self._file)
        if self._file is None:
            check_room(self._spool, LABELS, self._spool_bytes)
            self._file, self._since = SpoolFile(self._spool, LABELS, self._model), self._now()
        # Later than all before, though the clock be set back: of two labels for one thing the later one counts.
        self._last_us = max(self._clock_ns() // 1000, self._last_us + 1)
        received = {"schema_version": SCHEMA_VERSION, "model": self._model, "time_us": self._last_us}
        lines = "".join(json.dumps({**received, **asdict(label)}) + "\n" for label in labels)
        try:
            self._file.append(lines.encode(), durable=True)
        except OSError:
            if self._file.torn:
                self._release(self._file)
            raise

    def _is_full(self, file: SpoolFile) -> bool:
        return self._now() - self._since >= self._rotate_s or file.bytes >= self._rotate_bytes

    def _release(self, file: SpoolFile) -> None:
        self._file = None
        try:
            file.finish()
        except OSError as failed:
            _log.warning("a file of labels stays open", extra={"fields": {"reason": failed.strerror}})


def read_labels(path: Path) -> Iterator[dict[str, Any]]:
    """The labels in a file, oldest first, as far as its lines are whole.

    Raises:
        ValueError: a line is of a form that is not known here.
    """
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            label = json.loads(line)
            if not isinstance(label, dict) or label.get("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"it has a line that is no label of form {SCHEMA_VERSION}")
            yield label
