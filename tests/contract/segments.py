"""A prediction log as services leave it: what they would have predicted and been told, written by their own writers."""

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headrace.domain.contract import Contract
from serving.blocks import ID_BYTES, Block, Recorded
from serving.context import ROLES, Context
from serving.keys import Keys
from serving.label_log import Label, LabelLog
from serving.parquet import Segments, labels_table, predictions_table
from serving.spool import frame, header
from serving.spool_file import CLOSED, LABELS, PREDICTIONS, SpoolFile
from tests.serving.conftest import FEATURES, make_contract

NOON = 1_700_000_000.0
_HOUR_S = 3600.0


@dataclass
class Log:
    """Every call leaves a segment.

    Attributes:
        folder: for what waits, and for the segments.
        to: where segments go instead.
    """

    folder: Path
    to: str = ""
    contract: Contract = field(default_factory=lambda: make_contract("binary"))
    _numbers: Any = field(default_factory=itertools.count)

    def predict(
        self,
        *predictions: Any,
        version: int = 3,
        at: float = NOON,
        keys: Sequence[str | None] = (),
        decided: float | None = None,
        request: str = "",
        role: str = "stable",
    ) -> list[str]:
        """Ids of predictions; each has a request of its own, unless one is named."""
        count = len(predictions)
        ids = secrets.token_bytes(ID_BYTES * count)
        outputs = np.array(predictions, dtype=np.float32)
        block = Block(ids, np.zeros((count, len(FEATURES)), dtype=np.float32), outputs, used=count)
        at_us = round(at * 1e6)
        for n in range(1 if request else count):
            of = slice(None) if request else slice(n, n + 1)
            texts = [(key or "").encode() for key in keys[of]]
            moment = None if decided is None else round(decided * 1e6)
            said = Keys([texts], [moment] * len(texts)) if keys else None
            context = Context(request.encode() or f"r{next(self._numbers)}".encode(), ROLES.index(role))
            block.requests.append(Recorded(at_us, count if request else 1, context, said))
        file = SpoolFile(self._spool, PREDICTIONS, f"{self.contract.model}-v{version}")
        file.append(header(self.contract, version))
        file.append(frame(block, self.contract))
        file.finish()
        closed = file.path.with_suffix(CLOSED)
        Segments(self.to or str(self.folder)).write(predictions_table(closed), PREDICTIONS, closed.stem)
        closed.unlink()
        return [ids[ID_BYTES * n : ID_BYTES * (n + 1)].hex() for n in range(count)]

    def label(self, *labels: Label, at: float = NOON + _HOUR_S) -> None:
        """Received at that time."""
        log = LabelLog(self._spool, self.contract.model, _HOUR_S, clock_ns=lambda: round(at * 1e9))
        log.append(labels)
        log.rotate(everything=True)
        [closed] = self._spool.glob(f"{LABELS}-*{CLOSED}")
        Segments(self.to or str(self.folder)).write(labels_table(closed), LABELS, closed.stem)
        closed.unlink()

    @property
    def _spool(self) -> Path:
        found = self.folder / "spool"
        found.mkdir(parents=True, exist_ok=True)
        return found
