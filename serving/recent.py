"""The latest predictions, for comparison with what another version answers to the same rows."""

import hashlib
from collections.abc import Sequence

import numpy as np
import orjson

from headrace.telemetry import PROBE_ID
from serving.model import LoadedModel
from serving.recorder import Recent

_DIGEST_BYTES = 8
_PROBE = PROBE_ID.encode()
_MOST_ROWS = 4096


def recent_document(model: LoadedModel, predicted: Sequence[Recent]) -> bytes:
    """``{"version", "rows", "scores", "probes"}``, of the latest rows.

    `rows` are digests of the rows as the model took them, `scores` what the score histogram has of them, and `probes`
    whether a rollout sent them, and no client.

    Args:
        model: whose predictions.
        predicted: the latest predictions, oldest first.
    """
    rows: list[str] = []
    scores: list[float] = []
    probes: list[bool] = []
    for matrix, predictions, requests in reversed(predicted):
        left = _MOST_ROWS - len(rows)
        if left <= 0:
            break
        values = predictions if predictions.ndim == 1 else predictions.max(axis=1)
        flags = [one.context.request_id.startswith(_PROBE) for one in requests for _ in range(one.row_count)]
        rows += [_digest(row) for row in np.ascontiguousarray(matrix[-left:])]
        scores += values[-left:].tolist()
        probes += flags[-left:]
    return orjson.dumps({"version": model.version, "rows": rows, "scores": scores, "probes": probes})


def _digest(row: np.ndarray) -> str:
    return hashlib.blake2b(row.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()
