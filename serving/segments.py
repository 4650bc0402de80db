"""``python -m serving.segments FOLDER [TO]``: make Parquet segments of the spool files that are closed or left behind.

A process of its own, started by the service now and then, so that the Parquet library is in nobody's memory for long.
A segment's name is its spool file's: made twice, after a crash between writing one and removing the other, it is the
same segment.
"""

import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace import telemetry
from serving.spool_file import CLOSED, LABELS, OPEN, PREDICTIONS, UNREADABLE, waiting

if TYPE_CHECKING:
    from serving.parquet import Segments

_log = logging.getLogger("headrace.serving")

# A bucket that is out of reach fails for every file, each time after its time-outs.
_FAILURES = 3
# For so long an empty file may be one that its writer is about to lock.
_YOUNG_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what segments can be made.

    Returns:
        The exit code: 0 when nothing is left to do, 4 when something could not be written and is kept.
    """
    given = sys.argv[1:] if arguments is None else arguments
    folder, to = Path(given[0]), given[1] if len(given) > 1 else ""
    telemetry.configure()
    try:
        # Several services may share a folder; one at a time makes the segments of all.
        with (folder / "spool" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _make(whole_files(folder / "spool"), to or str(folder))
    except OSError as failed:
        _complain("segments can't be made", folder / "spool", failed)
        return 4


def whole_files(spool: Path) -> list[Path]:
    """Closed files, the oldest first, and those that a dead process left open: nobody holds their lock."""
    for path in waiting(spool, left_over=True):
        if path.suffix == OPEN and _is_left_behind(path):
            # Its writer may have closed it in between.
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_suffix(CLOSED))
    return sorted(waiting(spool), key=lambda path: path.stat().st_mtime_ns)


def _is_left_behind(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not found.st_size and time.time() - found.st_mtime < _YOUNG_S:
                return False
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _make(files: Sequence[Path], to: str) -> int:
    if not files:
        return 0
    from serving.parquet import Segments

    try:
        segments = Segments(to)
    except (OSError, ValueError) as failed:
        _complain("segments can't be written", files[0].parent, failed)
        return 4
    failures = kept = 0
    for position, path in enumerate(files):
        if _deal_with(path, segments):
            failures = 0
            continue
        failures, kept = failures + 1, kept + 1
        if failures == _FAILURES:
            kept += len(files) - position - 1
            break
    if kept:
        _log.error("spool files are kept", extra={"fields": {"files": kept, "folder": str(files[0].parent)}})
    return 4 if kept else 0


def _deal_with(path: Path, segments: "Segments") -> bool:
    """Whether nothing is left to do about a file."""
    from serving.parquet import labels_table, predictions_table

    is_labels = path.name.startswith(f"{LABELS}-")
    try:
        table = labels_table(path) if is_labels else predictions_table(path)
    except OSError as failed:
        _complain("a spool file can't be read", path, failed)
        return False
    except Exception as unreadable:
        # Not a spool file, or of another form: kept, and out of the way of the others.
        _complain("a spool file is none and is set aside", path, unreadable)
        path.rename(path.with_suffix(UNREADABLE))
        return True
    try:
        if table is not None:
            segments.write(table, LABELS if is_labels else PREDICTIONS, path.stem)
        path.unlink()
    except Exception as failed:
        _complain("a segment can't be written", path, failed)
        return False
    return True


def _complain(what: str, path: Path, problem: Exception) -> None:
    fields = {"file": str(path), "kind": type(problem).__name__, "reason": str(problem)}
    _log.error(what, extra={"fields": fields})


if __name__ == "__main__":
    # Ctrl-C reaches all processes of a terminal; the service says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main())
