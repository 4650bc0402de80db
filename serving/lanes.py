"""Plain bodies to questions whose rows are encoded already: what `serving.front` answers without the app."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from headrace.domain.encoding import Matrix
from serving.answers import JSON, Answer, predict_answer
from serving.fast_rows import NotPlain, RowDecoder
from serving.infer import INFER_HEADER, json_length
from serving.infer_matrix import TensorEncoder
from serving.infer_request import parse_infer
from serving.keys import Keys
from serving.model import Predictions
from serving.outputs import infer_answer
from serving.service import Question, Service

__all__ = ["NotPlain", "lanes"]

Headers = Mapping[bytes, bytes]
_JSON = JSON.encode()


@dataclass(frozen=True, slots=True)
class Plain:
    """Rows that are encoded, and how to say what is predicted for them."""

    encoded: Matrix
    keys: Keys | None
    reply: Callable[[Predictions, list[str]], Answer]

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return len(self.encoded)

    def matrix(self) -> Matrix:
        """The rows as the model takes them."""
        return self.encoded

    def answer(self, predictions: Predictions, ids: list[str]) -> Answer:
        """The answer, with a prediction and its id for every row."""
        return self.reply(predictions, ids)


def lanes(service: Service, rows_path: str, infer_paths: tuple[str, ...]) -> dict[str, Callable[..., Question]]:
    """Path to what reads a plain body there; it raises whatever it meets in another."""
    model, limits = service.model, service.desk.limits
    decoder = RowDecoder(model.contract, limits, completes=service.completion is not None)
    encoder = TensorEncoder(model.contract)

    def rows(headers: Headers, body: bytes) -> Question:
        if headers.get(b"content-type") != _JSON or b"content-encoding" in headers:
            raise NotPlain
        # A row has one brace, and the body another.
        if body.count(b"{") > model.inline_rows + 1:
            raise NotPlain
        return Plain(*decoder.decode(body), partial(predict_answer, model))

    def tensors(headers: Headers, body: bytes) -> Question:
        if headers.get(b"content-type", b"") not in _TENSOR_TYPES or b"content-encoding" in headers:
            raise NotPlain
        length = headers.get(INFER_HEADER.encode())
        json_bytes = None if length is None else json_length(length.decode())
        asked = parse_infer(body, json_bytes, model.contract, limits)
        if asked.row_count > model.inline_rows:
            raise NotPlain
        matrix = encoder.encode(asked.inputs, asked.row_count)
        return Plain(matrix, None, partial(infer_answer, model, asked=asked.outputs, request_id=asked.id))

    return {rows_path: rows, **dict.fromkeys(infer_paths, tensors)}


_TENSOR_TYPES = (_JSON, b"application/octet-stream", b"")
