"""Answers to requests for predictions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response

from serving.model import LoadedModel, Predictions

JSON = "application/json"


class Answer(NamedTuple):
    """An answer with status 200, before the headers that every answer has."""

    body: bytes
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def response(self) -> Response:
        """As the web framework sends it."""
        return Response(self.body, headers=dict(self.headers), media_type=self.media_type)

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of `response`, as ASGI has them, for the path that goes without the framework."""
        return [
            *((name.lower().encode(), value.encode()) for name, value in self.headers),
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", self.media_type.encode()),
        ]


def predict_answer(model: LoadedModel, predictions: Predictions, ids: Sequence[str]) -> Answer:
    """``{"model", "version", "predictions": [{"id", ...}]}``, in the order of the rows.

    Each prediction has an id of its own, by which its label can be joined later.
    """
    items = _items(model, predictions, ids)
    return Answer(orjson.dumps({"model": model.name, "version": model.version, "predictions": items}))


def _items(model: LoadedModel, predictions: Predictions, ids: Sequence[str]) -> list[dict[str, Any]]:
    values = predictions.tolist()
    match model.contract.task:
        case "binary":
            return [{"id": one, "probability": value} for one, value in zip(ids, values, strict=True)]
        case "regression":
            return [{"id": one, "value": value} for one, value in zip(ids, values, strict=True)]
        case "multiclass":
            classes = model.contract.label.classes
            return [
                {"id": one, "probabilities": dict(zip(classes, value, strict=True))}
                for one, value in zip(ids, values, strict=True)
            ]
