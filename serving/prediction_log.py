"""The prediction log: every prediction, written off the path of the requests, and never at their cost.

Blocks go through a bounded queue to one thread, which appends them to a spool file. Every now and then a file is
closed, and a process of its own makes Parquet of what is closed or was left behind (`serving.segments`): the service
needs no Parquet library in its memory.

A prediction that can't be kept is counted, and answered all the same.
"""

import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.domain.contract import Contract
from headrace.errors import UsageError
from serving.blocks import Block
from serving.metrics import Families
from serving.spool import frame, header
from serving.spool_file import PREDICTIONS, SpoolFile, check_room, waiting

_log = logging.getLogger("headrace.serving")

# Of 30 features with a key, 64 Ki rows are about 15 MB.
_QUEUED_ROWS = 64 * 1024
_FINISH_S = 20.0
_TICK_S = 1.0
# Requests come before segments, but for the last ones, which a stopping service waits for.
_NICENESS = 10
# How often a disk that fails is complained about.
_COMPLAINT_S = 5.0


@dataclass(frozen=True)
class LogOptions:
    """Where predictions go.

    Attributes:
        folder: of this machine: `spool/` in it, and the segments unless they go elsewhere.
        to: folder or s3:// URL for the segments; the same folder when empty.
        rotate_s: a segment has the predictions of at most so long.
        rotate_bytes: and the size of its spool file is about this.
        spool_bytes: so much may wait to become segments, when the bucket can't be reached; more is dropped.
    """

    folder: Path
    to: str = ""
    rotate_s: float = 60.0
    rotate_bytes: int = 64 * 1024 * 1024
    spool_bytes: int = 1024 * 1024 * 1024

    @property
    def spool(self) -> Path:
        """Where files wait to become segments."""
        return self.folder / "spool"


@dataclass(frozen=True, slots=True)
class _Kept:
    contract: Contract
    version: int
    block: Block


@dataclass(frozen=True, slots=True)
class _Writing:
    contract: Contract
    file: SpoolFile
    since: float


class PredictionLog:
    """Writes blocks in a thread of its own.

    Args:
        options: where to.
        families: counts what is dropped and what waits.
        now: seconds, for the rotation.
        queued_rows: so many rows may wait for the disk, counted as the memory that their blocks take.

    Raises:
        UsageError: the folder can't be made, or segments can't go to where they are to.
    """

    def __init__(
        self,
        options: LogOptions,
        families: Families,
        now: Callable[[], float] = time.monotonic,
        queued_rows: int = _QUEUED_ROWS,
    ) -> None:
        if "://" in options.to and not options.to.startswith("s3://"):
            scheme = options.to.partition("://")[0]
            raise UsageError(f"segments go to a folder or to s3://bucket/prefix, and not to {scheme}://")
        try:
            options.spool.mkdir(parents=True, exist_ok=True)
        except OSError as refused:
            raise UsageError(f"{options.spool} can't be made: {refused.strerror}; name another folder") from refused
        self._options = options
        self._families = families
        self._now = now
        self._queue: queue.SimpleQueue[_Kept | None] = queue.SimpleQueue()
        self._most_rows = queued_rows
        self._queued_rows = 0
        self._lock = threading.Lock()
        # By the contract itself: a directory that is loaded again is another one, whatever its version.
        self._files: dict[int, _Writing] = {}
        self._maker: subprocess.Popen[bytes] | None = None
        self._made_at = now()
        self._silent_until = now()
        self._also: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def put(self, contract: Contract, version: int, block: Block) -> None:
        """Take a block; one that there is no place for is dropped and counted. Never waits."""
        with self._lock:
            # One that is larger than the queue fits an empty one.
            is_full = self._queued_rows and self._queued_rows + block.capacity > self._most_rows
            if not is_full:
                self._queued_rows += block.capacity
        if is_full:
            self._dropped(block, "queue")
            return
        self._families.log_queue.inc(block.used)
        self._queue.put(_Kept(contract, version, block))

    def also(self, do: Callable[[], object]) -> None:
        """Do something else that may wait for the disk, about every second, in the log's thread."""
        self._also = do

    def close(self) -> bool:
        """Write what is queued, and make segments of it, for at most some seconds.

        Returns:
            Whether all of it is in segments; what is not will be by the next service that starts.
        """
        deadline = time.monotonic() + _FINISH_S
        self._queue.put(None)
        self._thread.join(_FINISH_S)
        if self._thread.is_alive():
            return False
        try:
            if self._maker is not None:
                # It may have looked before the last file was closed.
                self._maker.wait(max(deadline - time.monotonic(), 0.0))
            if not waiting(self._options.spool):
                return True
            self._make_segments(gently=False)
            return self._maker is not None and self._maker.wait(max(deadline - time.monotonic(), 0.0)) == 0
        except subprocess.TimeoutExpired:
            return False

    def _run(self) -> None:
        self._guarded(self._make_of_left_over)
        going = True
        while going:
            try:
                kept = self._queue.get(timeout=_TICK_S)
            except queue.Empty:
                pass
            else:
                going = kept is not None
                if kept is not None:
                    self._write(kept)
            self._guarded(self._also)
            self._guarded(self._rotate)
        self._guarded(lambda: self._finish(list(self._files)))

    def _guarded(self, do: Callable[[], object]) -> bool:
        """Whether it was done. The thread outlives what nobody foresaw."""
        try:
            do()
        except OSError as failed:
            self._complain(failed)
        except Exception:
            _log.exception("the prediction log failed")
        else:
            return True
        return False

    def _write(self, kept: _Kept) -> None:
        with self._lock:
            self._queued_rows -= kept.block.capacity
        self._families.log_queue.dec(kept.block.used)
        if not self._guarded(lambda: self._append(kept)):
            self._dropped(kept.block, "disk")

    def _append(self, kept: _Kept) -> None:
        one = self._files.get(id(kept.contract)) or self._begin(kept)
        try:
            one.file.append(frame(kept.block, kept.contract))
        except OSError:
            if one.file.torn:
                self._finish([id(kept.contract)])
            raise

    def _begin(self, kept: _Kept) -> _Writing:
        spool, contract = self._options.spool, kept.contract
        check_room(spool, PREDICTIONS, self._options.spool_bytes)
        file = SpoolFile(spool, PREDICTIONS, f"{contract.model}-v{kept.version}")
        try:
            file.append(header(contract, kept.version))
        except OSError:
            file.discard()
            raise
        one = self._files[id(contract)] = _Writing(contract, file, self._now())
        return one

    def _rotate(self) -> None:
        options, now = self._options, self._now()
        due = [
            key
            for key, one in self._files.items()
            if now - one.since >= options.rotate_s or one.file.bytes >= options.rotate_bytes
        ]
        self._finish(due)
        # What could not be made a segment, for want of a disk or a bucket, is tried again; so are others' files.
        if due or (now - self._made_at >= options.rotate_s and waiting(options.spool)):
            self._make_segments()

    def _finish(self, keys: list[int]) -> None:
        for key in keys:
            one = self._files.pop(key)
            try:
                one.file.finish()
            except OSError as failed:
                self._complain(failed)

    def _make_of_left_over(self) -> None:
        if waiting(self._options.spool, left_over=True):
            self._make_segments()

    def _make_segments(self, gently: bool = True) -> None:
        """Let another process make them. One at a time: the next call picks up what this one leaves."""
        if self._maker is not None and self._maker.poll() is None:
            return
        self._made_at = self._now()
        command = [sys.executable, "-m", "serving.segments", str(self._options.folder), self._options.to]
        try:
            self._maker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        except OSError as failed:
            self._maker = None
            self._complain(failed)
            return
        if gently:
            niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS
            os.setpriority(os.PRIO_PROCESS, self._maker.pid, niceness)

    def _dropped(self, block: Block, reason: str) -> None:
        self._families.dropped.labels(reason).inc(block.used)

    def _complain(self, failed: OSError) -> None:
        if self._now() >= self._silent_until:
            self._silent_until = self._now() + _COMPLAINT_S
            fields = {"folder": str(self._options.spool), "reason": failed.strerror}
            _log.error("the prediction log can't be written; predictions are answered", extra={"fields": fields})
