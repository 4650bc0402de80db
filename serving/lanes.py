"""Plain bodies to questions whose rows are encoded already: what `serving.front` answers without the app."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from headrace.domain.encoding import Matrix
from serving.answers import JSON, Answer, predict_answer
from serving.fast_rows import NotPlain, RowDecoder
from serving.infer import INFER_HEADER
from serving.infer_matrix import TensorEncoder
from serving.infer_request import parse_infer
from serving.keys import Keys
from serving.model import Predictions
from serving.outputs import infer_answer
from serving.service import Question, Service

__all__ = ["Lane", "NotPlain", "lanes"]

Headers = Mapping[bytes, bytes]
_JSON = JSON.encode()
_TENSOR_TYPES = (_JSON, b"application/octet-stream", b"")
_LENGTH = INFER_HEADER.encode()


class Plain(NamedTuple):
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


class Lane(NamedTuple):
    """How plain requests to a path are read.

    Attributes:
        takes: whether a request with these headers may be plain. It is not, if anything is wrong with them.
        read: the question in a body; raises whatever it meets in one that is not plain.
    """

    takes: Callable[[Headers], bool]
    read: Callable[[Headers, bytes], Question]


def lanes(service: Service, rows_path: str, infer_paths: tuple[str, ...]) -> dict[str, Lane]:
    """Path to its lane."""
    found = dict.fromkeys(infer_paths, Lane(_takes_tensors, _tensor_reader(service)))
    # A key may have a name that msgspec can't look for: with a quote, a backslash or a control character.
    with contextlib.suppress(ValueError):
        found[rows_path] = Lane(_takes_rows, _row_reader(service))
    return found


def _takes_rows(headers: Headers) -> bool:
    return headers.get(b"content-type") == _JSON and b"content-encoding" not in headers


def _row_reader(service: Service) -> Callable[[Headers, bytes], Question]:
    model, limits = service.model, service.desk.limits
    decoder = RowDecoder(model.contract, limits, model.inline_rows, completes=service.completion is not None)
    reply = partial(predict_answer, model)

    def read(_headers: Headers, body: bytes) -> Question:
        return Plain(*decoder.decode(body), reply)

    return read


def _takes_tensors(headers: Headers) -> bool:
    length = headers.get(_LENGTH)
    return (
        headers.get(b"content-type", b"") in _TENSOR_TYPES
        and b"content-encoding" not in headers
        and (length is None or (length.isdigit() and len(length) < 9))
    )


def _tensor_reader(service: Service) -> Callable[[Headers, bytes], Question]:
    model, limits = service.model, service.desk.limits
    encoder = TensorEncoder(model.contract)

    def read(headers: Headers, body: bytes) -> Question:
        length = headers.get(_LENGTH)
        asked = parse_infer(body, None if length is None else int(length), model.contract, limits)
        if asked.row_count > model.inline_rows:
            raise NotPlain
        matrix = encoder.encode(asked.inputs, asked.row_count)
        return Plain(matrix, None, partial(infer_answer, model, asked=asked.outputs, request_id=asked.id))

    return read
