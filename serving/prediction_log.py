"""The prediction log: every prediction, written off the path of the requests, and never at their cost.

Blocks go through a bounded queue to one thread, which appends them to a spool file. Every now and then a file is
closed, and a process of its own makes Parquet of what is closed or was left behind (`serving.segments`): the service
needs no Parquet library in its memory.

A prediction that can't be kept is counted, and answered all the same.
"""

import errno
import logging
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.domain.contract import Contract
from headrace.errors import UsageError
from serving.metrics import Families
from serving.recorder import Block
from serving.spool import CLOSED, OPEN, SpoolFile

_log = logging.getLogger("headrace.serving")

_QUEUED_BLOCKS = 32
_FINISH_S = 20.0
# How often a full disk is tried again, and said again.
_RETRY_S = 5.0


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


class PredictionLog:
    """Writes blocks in a thread of its own.

    Raises:
        UsageError: the folder can't be written.
    """

    def __init__(
        self,
        options: LogOptions,
        families: Families,
        now: Callable[[], float] = time.monotonic,
        queued: int = _QUEUED_BLOCKS,
    ) -> None:
        self._options = options
        self._now = now
        self._families = families
        self._queue: queue.Queue[_Kept | None] = queue.Queue(queued)
        self._files: dict[tuple[str, int], tuple[SpoolFile, float]] = {}
        self._compaction: subprocess.Popen[bytes] | None = None
        self._compacted_at = now()
        self._silent_until = now()
        try:
            options.spool.mkdir(parents=True, exist_ok=True)
        except OSError as refused:
            raise UsageError(f"{options.spool} can't be made: {refused.strerror}; name another folder") from refused
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def put(self, contract: Contract, version: int, block: Block) -> None:
        """Take a block; one that there is no place for is dropped and counted. Never waits."""
        try:
            self._queue.put_nowait(_Kept(contract, version, block))
            self._families.log_queue.inc(block.used)
        except queue.Full:
            self._dropped(block, "queue")

    def close(self) -> bool:
        """Write what is queued, and make segments of it, for at most some seconds.

        Returns:
            Whether all of it is written; what is not in a segment yet will be by the next service that starts.
        """
        deadline = time.monotonic() + _FINISH_S
        try:
            self._queue.put(None, timeout=_FINISH_S)
        except queue.Full:
            return False
        self._thread.join(deadline - time.monotonic())
        if self._thread.is_alive():
            return False
        self._compact()
        if self._compaction is None:
            return True
        try:
            return self._compaction.wait(max(deadline - time.monotonic(), 0.1)) == 0
        except subprocess.TimeoutExpired:
            return False

    def _run(self) -> None:
        self._compact()
        while True:
            try:
                kept = self._queue.get(timeout=1.0)
            except queue.Empty:
                self._rotate()
                continue
            if kept is None:
                self._rotate(everything=True)
                return
            self._families.log_queue.dec(kept.block.used)
            try:
                self._append(kept)
            except OSError as failed:
                self._dropped(kept.block, "disk")
                self._complain(failed)
            except Exception:
                # The thread must outlive what nobody foresaw; so must the numbers.
                self._dropped(kept.block, "disk")
                _log.exception("a block could not be logged")
            self._rotate()

    def _append(self, kept: _Kept) -> None:
        release = (kept.contract.model, kept.version)
        if release not in self._files:
            waiting = sum(path.stat().st_size for path in self._options.spool.iterdir())
            if waiting >= self._options.spool_bytes:
                raise OSError(errno.ENOSPC, f"{waiting} bytes wait to become segments, which is all that may")
            name = f"{kept.contract.model}-v{kept.version}-{os.getpid()}-{uuid.uuid4().hex}{OPEN}"
            self._files[release] = (SpoolFile(self._options.spool / name, kept.contract, kept.version), self._now())
        self._files[release][0].append(kept.block, kept.contract)

    def _rotate(self, everything: bool = False) -> None:
        options, now = self._options, self._now()
        for release, (file, since) in list(self._files.items()):
            if everything or now - since >= options.rotate_s or file.bytes >= options.rotate_bytes:
                del self._files[release]
                try:
                    file.finish()
                except OSError as failed:
                    self._complain(failed)
                self._compact()
        # What could not be made a segment, for want of a disk or a bucket, is tried again; so are others' files.
        if now - self._compacted_at >= options.rotate_s and any(options.spool.glob(f"*{CLOSED}")):
            self._compact()

    def _compact(self) -> None:
        """Let another process make segments. One at a time: the next call picks up what this one leaves."""
        if self._compaction is not None and self._compaction.poll() is None:
            return
        self._compacted_at = self._now()
        command = [sys.executable, "-m", "serving.segments", str(self._options.folder), self._options.to]
        try:
            self._compaction = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        except OSError as failed:
            self._complain(failed)

    def _dropped(self, block: Block, reason: str) -> None:
        self._families.dropped.labels(reason).inc(block.used)

    def _complain(self, failed: OSError) -> None:
        if self._now() >= self._silent_until:
            self._silent_until = self._now() + _RETRY_S
            fields = {"folder": str(self._options.spool), "reason": failed.strerror}
            _log.error("the prediction log can't be written; predictions are answered", extra={"fields": fields})
