"""The latest predictions, for comparison with what another version answers to the same rows."""

import hashlib
from collections.abc import Sequence

import numpy as np
import orjson

from headrace.domain.encoding import Matrix
from serving.model import LoadedModel, Predictions

_DIGEST_BYTES = 8
_MOST_ROWS = 4096


def recent_document(model: LoadedModel, predicted: Sequence[tuple[Matrix, Predictions]]) -> bytes:
    """``{"version", "rows", "scores"}``: a digest of each row as the model took it, and what the score histogram has.

    Args:
        model: whose predictions.
        predicted: rows and predictions, oldest first; of very many the latest.
    """
    rows: list[str] = []
    scores: list[float] = []
    for matrix, predictions in reversed(predicted):
        left = _MOST_ROWS - len(rows)
        if left <= 0:
            break
        values = predictions if predictions.ndim == 1 else predictions.max(axis=1)
        rows += [_digest(row) for row in np.ascontiguousarray(matrix[-left:])]
        scores += values[-left:].tolist()
    return orjson.dumps({"version": model.version, "rows": rows, "scores": scores})


def _digest(row: np.ndarray) -> str:
    return hashlib.blake2b(row.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()
