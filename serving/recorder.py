"""What was predicted, gathered in blocks: numbered with the ids of the predictions, counted and logged in bulk.

The path of a request only copies its rows into arrays. A block that is full, or is asked for, is counted by numpy in
one go and handed to the prediction log.
"""

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from headrace.domain.encoding import Matrix
from serving.blocks import ID_BYTES, Block, Recorded
from serving.context import Context
from serving.keys import Keys
from serving.metrics import Metrics
from serving.model import LoadedModel, Predictions

_ROWS = 1024
_KEPT_BLOCKS = 4


class Recent(NamedTuple):
    """Rows, their predictions, and the requests that they came with."""

    matrix: Matrix
    predictions: Predictions
    requests: list[Recorded]


class Recorder:
    """Numbers, counts and logs the predictions of one version.

    Safe to use from several threads: large requests are answered in one of their own.

    Args:
        model: whose predictions.
        metrics: what counts them.
        log: takes every block that is full; must not wait.
    """

    def __init__(self, model: LoadedModel, metrics: Metrics, log: Callable[[Block], None] | None = None) -> None:
        self._width = len(model.contract.features)
        self._classes = len(model.contract.label.classes)
        self._metrics = metrics
        self._log = log
        self._lock = threading.Lock()
        self._statuses: Counter[int] = Counter()
        self._elapsed_s: list[float] = []
        self._kept: deque[Block] = deque(maxlen=_KEPT_BLOCKS)
        self._block, self._hex = self._new(_ROWS)

    def add(self, matrix: Matrix, predictions: Predictions, context: Context, keys: Keys | None) -> list[str]:
        """Keep the predictions of a request.

        Returns:
            A new id for each, 32 hexadecimal digits.
        """
        count = len(matrix)
        with self._lock:
            if self._block.used + count > self._block.capacity:
                self._seal()
                if count > _ROWS:
                    self._block, self._hex = self._new(count)
            block, start = self._block, self._block.used
            end = block.used = start + count
            block.matrix[start:end] = matrix
            block.outputs[start:end] = predictions
            block.requests.append(Recorded(time.time_ns() // 1000, count, context, keys))
            digits = self._hex
        return [digits[i : i + 2 * ID_BYTES] for i in range(2 * ID_BYTES * start, 2 * ID_BYTES * end, 2 * ID_BYTES)]

    def answered(self, status: int, elapsed_s: float) -> None:
        """Keep how a request for predictions ended."""
        with self._lock:
            self._statuses[status] += 1
            self._elapsed_s.append(elapsed_s)
            if len(self._elapsed_s) >= _ROWS:
                self._count_answers()

    def seal(self) -> None:
        """Count what is not counted yet, and hand the block to the log, full or not."""
        with self._lock:
            self._count_answers()
            if self._block.used:
                self._seal()

    def recent(self) -> list[Recent]:
        """What the last few blocks hold, oldest first."""
        with self._lock:
            blocks = [(block, block.used, list(block.requests)) for block in (*self._kept, self._block)]
        return [Recent(block.matrix[:used], block.outputs[:used], requests) for block, used, requests in blocks]

    def _count_answers(self) -> None:
        statuses, elapsed_s = self._statuses, self._elapsed_s
        self._statuses, self._elapsed_s = Counter(), []
        self._metrics.answered(statuses, elapsed_s)

    def _seal(self) -> None:
        block = self._block
        self._block, self._hex = self._new(_ROWS)
        if not block.used:
            return
        self._kept.append(block)
        self._metrics.predicted(block.matrix[: block.used], block.outputs[: block.used])
        if self._log is not None:
            self._log(block)

    def _new(self, capacity: int) -> tuple[Block, str]:
        # One call for all: the system call costs more than the bytes.
        ids = os.urandom(ID_BYTES * capacity)
        shape = (capacity, self._classes) if self._classes else (capacity,)
        matrix = np.empty((capacity, self._width), dtype=np.float32)
        return Block(ids, matrix, np.empty(shape, dtype=np.float32)), ids.hex()
