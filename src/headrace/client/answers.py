"""Answers of a model service to values, or to the error that says what is wrong."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from headrace.client.exchange import Answer
from headrace.client.predictions import (
    BinaryPrediction,
    Metadata,
    MulticlassPrediction,
    Prediction,
    Predictions,
    RegressionPrediction,
    Tensor,
)
from headrace.errors import DataError, HeadraceError, Unavailable, UsageError

_SHOWN_CHARS = 300


class _NotTheProtocol(Exception):
    """What the protocol promises is not there."""


def predictions(answer: Answer, url: str, count: int) -> Predictions:
    """The predictions for `count` rows.

    Raises:
        Unavailable: it is not the answer of a model service.
    """
    try:
        body = _document(answer)
        items = tuple(_prediction(item) for item in _typed(body, "predictions", list))
        if len(items) != count:
            raise _NotTheProtocol(f"it has {len(items)} predictions for {count} rows")
        if len({type(item) for item in items}) > 1:
            raise _NotTheProtocol("its predictions are of several kinds")
        return Predictions(_typed(body, "model", str), _typed(body, "version", int), items)
    except _NotTheProtocol as wrong:
        raise _foreign(answer, url, str(wrong)) from None


def accepted(answer: Answer, url: str, count: int) -> int:
    """How many labels of `count` are kept now: all of them.

    Raises:
        Unavailable: it is not the answer of a model service.
    """
    try:
        found: int = _typed(_document(answer), "accepted", int)
        if found != count:
            raise _NotTheProtocol(f"it has accepted {found} of {count} labels")
        return found
    except _NotTheProtocol as wrong:
        raise _foreign(answer, url, str(wrong)) from None


def metadata(answer: Answer, url: str) -> Metadata:
    """What a model takes and gives.

    Raises:
        Unavailable: it is not the answer of a model service.
    """
    try:
        body = _document(answer)
        versions = tuple(str(version) for version in _typed(body, "versions", list))
        inputs, outputs = (tuple(_tensor(one) for one in _typed(body, key, list)) for key in ("inputs", "outputs"))
        return Metadata(_typed(body, "name", str), versions, _typed(body, "platform", str), inputs, outputs)
    except _NotTheProtocol as wrong:
        raise _foreign(answer, url, str(wrong)) from None


def flag(answer: Answer, url: str, key: str) -> bool:
    """What a health route says, ``{key: true}``.

    Raises:
        Unavailable: it is not the answer of a model service.
    """
    try:
        return bool(_typed(_document(answer), key, bool))
    except _NotTheProtocol as wrong:
        raise _foreign(answer, url, str(wrong)) from None


def succeeded(answer: Answer) -> bool:
    """Whether its status is 2xx."""
    return 200 <= answer.status < 300


def refusal(answer: Answer, url: str, tries: int = 1) -> HeadraceError:
    """The error that an answer other than a success stands for.

    Returns:
        UsageError: 404 or a redirection; DataError: another 4xx; Unavailable: 5xx and 429.
    """
    said = f"{url} answers {answer.status}: {sentence(answer)}"
    asked = f" (asked {tries} times)" if tries > 1 else ""
    match answer.status:
        case 404:
            what = f"nothing answers for this model at {url} ({sentence(answer)})"
            return UsageError(f"{what}: is it in service? `headrace up` puts it there")
        case status if 300 <= status < 400:
            where = answer.headers.get("Location", "an address that it does not name")
            return UsageError(f"{url} answers {status} and points to {where}: give the client that address")
        case status if 400 <= status < 500 and status != 429:
            return DataError(said)
    return Unavailable(f"{said}{asked}: try again later")


def sentence(answer: Answer) -> str:
    """What an answer says is wrong: the service's own sentence, or the beginning of whatever came."""
    try:
        return _typed(_document(answer), "error", str)
    except _NotTheProtocol:
        return _beginning(answer)


def _document(answer: Answer) -> Mapping[str, Any]:
    try:
        body = json.loads(answer.content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _NotTheProtocol("it is not JSON") from None
    if not isinstance(body, dict):
        raise _NotTheProtocol("it is not a JSON object")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _prediction(item: Any) -> Prediction:
    if not isinstance(item, dict):
        raise _NotTheProtocol("one of its predictions is not an object")
    name = _typed(item, "id", str)
    if "probability" in item:
        return BinaryPrediction(name, _number(item, "probability"))
    if "value" in item:
        return RegressionPrediction(name, _number(item, "value"))
    shares = _typed(item, "probabilities", dict)
    return MulticlassPrediction(name, {label: _number(shares, label) for label in shares})


def _tensor(item: Any) -> Tensor:
    if not isinstance(item, dict):
        raise _NotTheProtocol("one of its inputs or outputs is not an object")
    shape = _typed(item, "shape", list)
    if not all(type(length) is int for length in shape):
        raise _NotTheProtocol("'shape' is not a list of integers")
    return Tensor(_typed(item, "name", str), _typed(item, "datatype", str), tuple(shape))


def _number(item: Mapping[str, Any], key: str) -> float:
    value = item[key]
    if type(value) not in (int, float):
        raise _NotTheProtocol(f"{key!r} is no number")
    return float(value)


def _typed(item: Mapping[str, Any], key: str, kind: type) -> Any:
    # By type and not by isinstance: true is no integer here.
    if type(item.get(key)) is not kind:
        raise _NotTheProtocol(f"{key!r} is missing, or is no {kind.__name__}")
    return item[key]


def _foreign(answer: Answer, url: str, why: str) -> Unavailable:
    kind = answer.headers.get("Content-Type", "no content type")
    return Unavailable(
        f"{url} answers {answer.status}, but not as a model service does: {why} ({kind}, {_beginning(answer)!r}); "
        "check the address, and what stands between"
    )


def _beginning(answer: Answer) -> str:
    return " ".join(answer.content[: 4 * _SHOWN_CHARS].decode(errors="replace").split())[:_SHOWN_CHARS]
