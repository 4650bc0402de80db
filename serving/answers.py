"""Predictions to the body of an answer."""

import os
from typing import Any

import orjson

from serving.model import LoadedModel, Predictions

_ID_BYTES = 16


def predict_answer(model: LoadedModel, predictions: Predictions) -> bytes:
    """``{"model", "version", "predictions": [{"id", ...}]}``, in the order of the rows.

    Each prediction has an id of its own, by which its label can be joined later.
    """
    values = [_named(model, value) for value in predictions.tolist()]
    ids = prediction_ids(len(values))
    items = [{"id": one, **value} for one, value in zip(ids, values, strict=True)]
    return orjson.dumps({"model": model.name, "version": model.version, "predictions": items})


def _named(model: LoadedModel, value: Any) -> dict[str, Any]:
    match model.contract.task:
        case "binary":
            return {"probability": value}
        case "regression":
            return {"value": value}
        case "multiclass":
            return {"probabilities": dict(zip(model.contract.label.classes, value, strict=True))}


def prediction_ids(count: int) -> list[str]:
    """As many new ids, each of 32 hexadecimal digits."""
    # One call for all: the system call costs more than the bytes.
    digits = os.urandom(_ID_BYTES * count).hex()
    return [digits[i : i + 2 * _ID_BYTES] for i in range(0, len(digits), 2 * _ID_BYTES)]
